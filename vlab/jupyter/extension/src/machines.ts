// All virtual machines of all running Python kernels. Kernels are asked only while somebody looks.

import { INotebookTracker } from '@jupyterlab/notebook';
import { Kernel, ServiceManager } from '@jupyterlab/services';
import { ISignal, Signal } from '@lumino/signaling';

import { IAnswer, Line } from './line';

export class Machines {
  constructor(services: ServiceManager.IManager, notebooks: INotebookTracker) {
    this._services = services;
    this._notebooks = notebooks;
    services.kernels.runningChanged.connect(this._refresh, this);
    services.sessions.runningChanged.connect(() => this._changed.emit());
  }

  /** One line a kernel; those without virtual machines too. */
  get lines(): Line[] {
    return [...this._lines.values()];
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get answered(): ISignal<this, IAnswer> {
    return this._answered;
  }

  /** Begin or end to follow the kernels. */
  watch(on: boolean): void {
    this._watching = on;
    if (on) {
      void this._services.kernelspecs.ready.then(() => this._refresh());
    } else {
      this._refresh();
    }
  }

  /** Where a kernel's notebook is; "" for a kernel without one. */
  pathOf(line: Line): string {
    for (const session of this._services.sessions.running()) {
      if (session.kernel?.id === line.kernelId) {
        return session.type === 'notebook' ? session.path : '';
      }
    }
    return '';
  }

  /** What people call a kernel. */
  titleOf(line: Line): string {
    for (const session of this._services.sessions.running()) {
      if (session.kernel?.id === line.kernelId) {
        return session.path.split('/').pop() || session.name;
      }
    }
    return `kernel ${line.kernelId.slice(0, 8)}`;
  }

  /** Ask something of all virtual machines; resolves when all kernels were asked. */
  async askAll(action: string): Promise<void> {
    await this._services.kernelspecs.ready;
    this._refresh();
    await Promise.all(this.lines.map(line => line.ready));
    this.lines.forEach(line => line.ask(action));
  }

  private _refresh(): void {
    const models = new Map<string, Kernel.IModel>();
    if (this._watching) {
      for (const model of this._services.kernels.running()) {
        if (this._isPython(model)) {
          models.set(model.id, model);
        }
      }
    }
    for (const [id, line] of this._lines) {
      if (!models.has(id)) {
        line.dispose();
        this._lines.delete(id);
      }
    }
    for (const [id, model] of models) {
      if (!this._lines.has(id)) {
        const line = new Line(this._services.kernels, model, () => this._connectionTo(id));
        line.changed.connect(() => this._changed.emit());
        line.answered.connect((_, answer) => this._answered.emit(answer));
        this._lines.set(id, line);
      }
    }
    this._changed.emit();
  }

  /** The connection of a notebook that is open. */
  private _connectionTo(id: string): Kernel.IKernelConnection | null {
    const panel = this._notebooks.find(each => each.sessionContext.session?.kernel?.id === id);
    return panel?.sessionContext.session?.kernel ?? null;
  }

  private _isPython(model: Kernel.IModel): boolean {
    return this._services.kernelspecs.specs?.kernelspecs[model.name]?.language === 'python';
  }

  private _services: ServiceManager.IManager;
  private _notebooks: INotebookTracker;
  private _lines = new Map<string, Line>();
  private _watching = false;
  private _changed = new Signal<this, void>(this);
  private _answered = new Signal<this, IAnswer>(this);
}
