// Opens the dashboard of a virtual machine beside its notebook, or as a tab behind it: an output of the
// notebook's kernel, without a cell. The notebook's renderers draw it, so that its widgets belong there.

import { JupyterFrontEnd } from '@jupyterlab/application';
import { MainAreaWidget } from '@jupyterlab/apputils';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { OutputAreaModel, SimplifiedOutputArea } from '@jupyterlab/outputarea';
import { Kernel } from '@jupyterlab/services';

import { vlabIcon } from './icons';
import { IReport, Line, titleOf } from './line';
import { Machines } from './machines';

/** Pixels below which notebook and dashboard share one place; half of it would be too narrow for either. */
const NARROW = 600;

export class Dashboards {
  constructor(app: JupyterFrontEnd, notebooks: INotebookTracker, machines: Machines) {
    this._app = app;
    this._notebooks = notebooks;
    this._machines = machines;
  }

  /** Open it, or bring forward the one that is open. Raises an Error with one sentence. */
  async open(line: Line, vm: IReport): Promise<void> {
    const id = `vlab-vm-${line.kernelId}-${vm.number}`;
    const there = this._open.get(id);
    if (there && !there.isDisposed) {
      this._app.shell.activateById(id);
      return;
    }
    const panel = await this._notebookOf(line);
    const kernel = panel?.sessionContext.session?.kernel;
    if (!panel || !kernel) {
      throw new Error(`${vm.name || vm.guest}: its kernel has no notebook; open one with this kernel first`);
    }
    const widget = this._frame(id, vm, panel);
    await this._display(kernel, vm, widget.content);
  }

  private async _notebookOf(line: Line): Promise<NotebookPanel | null> {
    const find = () =>
      this._notebooks.find(each => each.sessionContext.session?.kernel?.id === line.kernelId) ?? null;
    const found = find();
    const path = this._machines.pathOf(line);
    if (found || !path) {
      return found;
    }
    const opened: NotebookPanel | undefined = await this._app.commands.execute('docmanager:open', { path });
    await opened?.sessionContext.ready;
    return find();
  }

  private _frame(id: string, vm: IReport, panel: NotebookPanel): MainAreaWidget<SimplifiedOutputArea> {
    const content = new SimplifiedOutputArea({
      model: new OutputAreaModel({ trusted: true }),
      rendermime: panel.content.rendermime
    });
    content.addClass('vlab-dashboard');
    const widget = new MainAreaWidget({ content });
    widget.id = id;
    widget.title.label = titleOf(vm);
    widget.title.caption = `The dashboard of this virtual machine, from ${panel.title.label}`;
    widget.title.icon = vlabIcon;
    widget.title.closable = true;
    widget.toolbar.hide();
    panel.disposed.connect(() => widget.dispose());
    this._open.set(id, widget);
    const mode = panel.node.clientWidth < NARROW ? 'tab-after' : 'split-right';
    this._app.shell.add(widget, 'main', { mode, ref: panel.id });
    this._app.shell.activateById(id);
    return widget;
  }

  /** Have the kernel display the VM there; in a subshell, where it has them, since a cell may run. */
  private async _display(kernel: Kernel.IKernelConnection, vm: IReport, area: SimplifiedOutputArea) {
    const code = `import vlab.jupyter.panel; vlab.jupyter.panel.show(${vm.number})`;
    const request = { code, store_history: false, allow_stdin: false };
    if (!kernel.supportsSubshells) {
      area.future = kernel.requestExecute(request, false);
      return;
    }
    const { subshell_id } = (await kernel.requestCreateSubshell({}).done).content;
    const usual = kernel.subshellId;
    kernel.subshellId = subshell_id;
    try {
      area.future = kernel.requestExecute(request, false);
    } finally {
      kernel.subshellId = usual;
    }
    await area.future.done;
    await kernel.requestDeleteSubshell({ subshell_id }).done;
  }

  private _app: JupyterFrontEnd;
  private _notebooks: INotebookTracker;
  private _machines: Machines;
  private _open = new Map<string, MainAreaWidget>();
}
