// vlab in JupyterLab: what it adds, each in a plugin that can be switched off by itself.

import { ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { IEditorLanguageRegistry } from '@jupyterlab/codemirror';
import { IDocumentManager } from '@jupyterlab/docmanager';
import { FileDialog, IDefaultFileBrowser } from '@jupyterlab/filebrowser';
import { ILauncher } from '@jupyterlab/launcher';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ISettingRegistry } from '@jupyterlab/settingregistry';

import '../../../widgets/static/common.css';
import { highlightAssembly } from './assembly';
import { Dashboards } from './dashboard';
import { traceIcon, vlabIcon } from './icons';
import { addCards, newNotebook, titleOf } from './lessons';
import { Machines } from './machines';
import { MachinesPanel } from './panel';
import { followSettings } from './settings';
import { registerViewer } from './viewer';

const GROUP = 'vlab';
const SETTINGS = 'vlab:plugin';

const settings: JupyterFrontEndPlugin<void> = {
  id: SETTINGS,
  description: 'The settings of vlab.',
  autoStart: true,
  requires: [ISettingRegistry],
  activate: (_app: JupyterFrontEnd, registry: ISettingRegistry) => followSettings(registry, SETTINGS)
};

const machines: JupyterFrontEndPlugin<void> = {
  id: 'vlab:machines',
  description: 'The virtual machines of all running kernels, in the right side bar.',
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ICommandPalette, ILayoutRestorer],
  activate: (
    app: JupyterFrontEnd,
    notebooks: INotebookTracker,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null
  ) => {
    const all = new Machines(app.serviceManager, notebooks);
    const dashboards = new Dashboards(app, notebooks, all);
    const panel = new MachinesPanel(all, (line, vm) => dashboards.open(line, vm));
    app.shell.add(panel, 'right', { rank: 900 });
    restorer?.add(panel, panel.id);
    const show = () => app.shell.activateById(panel.id);
    const ask = async (action: string) => {
      show();
      await panel.askAll(action);
    };
    const commands: [string, string, () => unknown][] = [
      ['vlab:show-machines', 'Show Virtual Machines', show],
      ['vlab:pause-all', 'Pause All Virtual Machines', () => ask('pause')],
      ['vlab:stop-all', 'Stop All Virtual Machines…', () => ask('stop')]
    ];
    for (const [command, label, execute] of commands) {
      app.commands.addCommand(command, { label, execute });
      palette?.addItem({ command, category: GROUP });
    }
  }
};

const traces: JupyterFrontEndPlugin<void> = {
  id: 'vlab:traces',
  description: 'Opens .vlabtrace files without a kernel.',
  autoStart: true,
  requires: [IDocumentManager],
  optional: [ICommandPalette],
  activate: (app: JupyterFrontEnd, manager: IDocumentManager, palette: ICommandPalette | null) => {
    registerViewer(app.docRegistry);
    app.commands.addCommand('vlab:open-trace', {
      label: 'Open Trace…',
      caption: 'Look at a recorded trace; no kernel is needed',
      icon: args => (args['isPalette'] ? undefined : traceIcon),
      execute: async () => {
        const filter = (model: { name: string }) => (model.name.endsWith('.vlabtrace') ? {} : null);
        const chosen = await FileDialog.getOpenFiles({ manager, title: 'Open a trace', filter });
        for (const file of chosen.value ?? []) {
          manager.openOrReveal(file.path);
        }
      }
    });
    palette?.addItem({ command: 'vlab:open-trace', category: GROUP, args: { isPalette: true } });
  }
};

const lessons: JupyterFrontEndPlugin<void> = {
  id: 'vlab:lessons',
  description: 'New notebooks, and cards in the launcher.',
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ICommandPalette, ILauncher, IDefaultFileBrowser],
  activate: (
    app: JupyterFrontEnd,
    _notebooks: INotebookTracker,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    browser: IDefaultFileBrowser | null
  ) => {
    app.commands.addCommand('vlab:new-notebook', {
      label: args => (args['isPalette'] ? 'New vlab Notebook' : 'First notebook'),
      caption: 'A new notebook with a first virtual machine in it',
      icon: args => (args['isPalette'] ? undefined : vlabIcon),
      execute: args => newNotebook(app, (args['cwd'] as string) || browser?.model.path || '')
    });
    app.commands.addCommand('vlab:open-lesson', {
      label: args => titleOf(String(args['path'] ?? 'lesson')),
      caption: args => `Open ${String(args['path'] ?? 'a lesson')}`,
      icon: vlabIcon,
      execute: args => app.commands.execute('docmanager:open', { path: args['path'] })
    });
    palette?.addItem({ command: 'vlab:new-notebook', category: GROUP, args: { isPalette: true } });
    if (launcher) {
      void app.restored.then(() => addCards(app, launcher, ['vlab:new-notebook', 'vlab:open-trace']));
    }
  }
};

const assembly: JupyterFrontEndPlugin<void> = {
  id: 'vlab:assembly',
  description: 'Colours cells that begin with %%asm.',
  autoStart: true,
  requires: [INotebookTracker, IEditorLanguageRegistry],
  activate: (_app: JupyterFrontEnd, notebooks: INotebookTracker, languages: IEditorLanguageRegistry) =>
    highlightAssembly(languages, notebooks)
};

export default [settings, machines, traces, lessons, assembly];
