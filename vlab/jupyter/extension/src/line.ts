// The line to one kernel: what vlab/jupyter/panel.py tells about its virtual machines, and what it is asked.
//
// The line has a connection of its own, which leaves other comms of the kernel alone, so that notebooks and
// their widgets do not notice it. With ipykernel 7 it talks to a subshell, which hears it while a cell runs.

import { Kernel, KernelMessage } from '@jupyterlab/services';
import { PromiseDelegate, UUID } from '@lumino/coreutils';
import { ISignal, Signal } from '@lumino/signaling';

const TARGET = 'vlab.vms';
/** Milliseconds between two signs of life; the kernel forgets a panel that is silent for a minute. */
const SIGN_OF_LIFE = 15_000;
/** Milliseconds of silence, where the kernel speaks every second, after which it is asked who it is. */
const SILENCE = 5_000;

/** What the panel shows of one virtual machine; report() in panel.py makes it. */
export interface IReport {
  number: number;
  name: string;
  guest: string;
  monitor: string;
  paging: string;
  state: 'running' | 'paused' | 'ended';
  inCell: boolean;
  ending: string;
  exits: number;
  rate: number;
  memory: number;
  time: number;
  canStep: boolean;
  canGoBack: boolean;
  snapshots: number;
}

/** What a virtual machine is called: by its variable, if it has one, and its guest. */
export function titleOf(vm: IReport): string {
  return vm.name ? `${vm.name} (${vm.guest})` : vm.guest;
}

/** What came of something that was asked. */
export interface IAnswer {
  said: string;
  problem: boolean;
}

interface ILetter extends Partial<IAnswer> {
  vms: IReport[];
}

export class Line {
  /** informant: gives a connection that knows the kernel already; this one may meet it busy with a cell. */
  constructor(
    manager: Kernel.IManager,
    model: Kernel.IModel,
    informant: () => Kernel.IKernelConnection | null
  ) {
    this._informant = informant;
    this._kernel = manager.connectTo({ model, handleComms: false });
    this._kernel.iopubMessage.connect(this._heard, this);
    this._kernel.statusChanged.connect(this._statusChanged, this);
    this._timers = [
      window.setInterval(() => this._say({}), SIGN_OF_LIFE),
      window.setInterval(() => void this._doubt(), SILENCE)
    ];
    void this._begin();
  }

  get kernelId(): string {
    return this._kernel.id;
  }

  /** The virtual machines in the kernel, as it last told. */
  get vms(): IReport[] {
    return this._vms;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get answered(): ISignal<this, IAnswer> {
    return this._answered;
  }

  /** Resolves when it is known whether vlab is in the kernel. */
  get ready(): Promise<void> {
    return this._ready.promise;
  }

  /** Ask for an action of panel.py on one virtual machine or, without number, on all. */
  ask(action: string, number: number | null = null): void {
    this._say({ action, number });
    const blocking = this._vms.some(vm => vm.inCell && (number === null || vm.number === number));
    if (blocking && (action === 'pause' || action === 'stop') && !this._kernel.subshellId) {
      void this._kernel.interrupt(); // it would hear us only after the cell
    }
  }

  dispose(): void {
    if (this._kernel.isDisposed) {
      return;
    }
    this._timers.forEach(timer => window.clearInterval(timer));
    this._send('comm_close', {});
    Signal.clearData(this);
    if (!this._kernel.supportsSubshells) {
      this._kernel.subshellId = null; // it could not delete it
    }
    this._kernel.dispose();
  }

  private async _begin(): Promise<void> {
    try {
      await this._openSubshell();
      await this._look();
    } catch (error) {
      console.warn(`vlab: kernel ${this.kernelId.slice(0, 8)} cannot be asked for virtual machines`, error);
    } finally {
      this._ready.resolve();
    }
  }

  private async _openSubshell(): Promise<void> {
    let knowing = this._informant();
    if (!knowing?.supportsSubshells) {
      await this._kernel.info;
      knowing = this._kernel;
    }
    if (knowing.supportsSubshells) {
      const reply = await knowing.requestCreateSubshell({}).done;
      this._kernel.subshellId = reply.content.subshell_id;
    }
  }

  /** Open the comm if vlab is imported. Asked first, since a kernel without it would log a complaint. */
  private async _look(): Promise<void> {
    if (this._comm || this._kernel.isDisposed) {
      return;
    }
    this._hopeful = false;
    const future = this._kernel.requestExecute({
      code: '',
      silent: true,
      store_history: false,
      stop_on_error: false,
      user_expressions: { vlab: "'vlab' in __import__('sys').modules" }
    });
    const { content } = await future.done;
    const found = content.status === 'ok' ? (content.user_expressions['vlab'] as any) : null;
    if (found?.data?.['text/plain'] === 'True') {
      this._open();
    }
  }

  private _open(): void {
    if (!this._comm && !this._kernel.isDisposed) {
      this._comm = UUID.uuid4();
      this._heardAt = Date.now();
      this._send('comm_open', { target_name: TARGET, data: {} });
    }
  }

  private _say(data: Record<string, string | number | null>): void {
    this._send('comm_msg', { data });
  }

  private _send(msgType: 'comm_open' | 'comm_msg' | 'comm_close', content: object): void {
    if (!this._comm || this._kernel.isDisposed || this._kernel.status === 'dead') {
      return;
    }
    const message = KernelMessage.createMessage({
      msgType: msgType as 'comm_msg',
      channel: 'shell',
      username: this._kernel.username,
      session: this._kernel.clientId,
      subshellId: this._kernel.subshellId ?? undefined,
      content: { data: {}, ...content, comm_id: this._comm }
    });
    this._kernel.sendShellMessage(message, false, true);
  }

  private _heard(_: Kernel.IKernelConnection, message: KernelMessage.IIOPubMessage): void {
    const { msg_type } = message.header;
    if (msg_type === 'execute_input') {
      this._hopeful = true; // somebody ran a cell, which may have imported vlab
      return;
    }
    const content = message.content as any;
    if (msg_type === 'status' && content.execution_state === 'starting') {
      this._startOver(); // restarted by somebody else, who alone is told that it is restarting
    }
    if (!this._comm || content.comm_id !== this._comm) {
      return;
    }
    if (msg_type === 'comm_close') {
      this._forget();
    } else if (msg_type === 'comm_msg') {
      const letter = content.data as ILetter;
      this._heardAt = Date.now();
      this._sender = message.header.session;
      this._vms = letter.vms;
      this._changed.emit();
      if (letter.said !== undefined) {
        this._answered.emit({ said: letter.said, problem: letter.problem ?? false });
      }
    }
  }

  /**
   * After a silence, see whether another process is the kernel now. Who did not restart it is told by nothing
   * but its first message, which is lost when the server's sockets have not reached the new process by then.
   */
  private async _doubt(): Promise<void> {
    if (!this._comm || this._doubting || Date.now() - this._heardAt < SILENCE) {
      return;
    }
    this._doubting = true;
    try {
      const question = KernelMessage.createMessage({
        msgType: 'kernel_info_request', // not of the subshell, which went with the process
        channel: 'shell',
        username: this._kernel.username,
        session: this._kernel.clientId,
        content: {}
      });
      const reply = await this._kernel.sendShellMessage(question, true).done;
      if (this._comm && reply.header.session !== this._sender) {
        this._startOver();
        this._restarted = false;
        await this._begin();
      }
    } catch {
      // the line was cut meanwhile
    } finally {
      this._doubting = false;
    }
  }

  private _statusChanged(_: Kernel.IKernelConnection, status: KernelMessage.Status): void {
    if (status === 'restarting' || status === 'autorestarting' || status === 'dead') {
      this._startOver();
    } else if (status === 'idle' && this._restarted) {
      this._restarted = false;
      void this._begin();
    } else if (status === 'idle' && this._hopeful) {
      void this._look();
    }
  }

  private _startOver(): void {
    this._kernel.subshellId = null;
    this._restarted = true;
    this._forget();
  }

  private _forget(): void {
    this._comm = '';
    this._vms = [];
    this._changed.emit();
  }

  private _kernel: Kernel.IKernelConnection;
  private _informant: () => Kernel.IKernelConnection | null;
  private _timers: number[];
  private _comm = '';
  private _vms: IReport[] = [];
  private _hopeful = false;
  private _heardAt = 0;
  private _sender = '';
  private _doubting = false;
  private _restarted = false;
  private _ready = new PromiseDelegate<void>();
  private _changed = new Signal<this, void>(this);
  private _answered = new Signal<this, IAnswer>(this);
}
