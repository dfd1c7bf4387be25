// The side panel: the virtual machines of all running kernels, with what one can do to them.

import { Dialog, showDialog } from '@jupyterlab/apputils';
import { Message } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';

import { count, node } from '../../../widgets/static/common.js';
import { ACTION_ICONS, vlabIcon } from './icons';
import { IAnswer, IReport, Line, titleOf } from './line';
import { Machines } from './machines';

/** What a button says, and when it can be pressed. */
const ACTIONS: [string, string, (vm: IReport) => boolean][] = [
  ['pause', 'Pause', vm => vm.state === 'running'],
  ['resume', 'Resume', vm => vm.state === 'paused'],
  ['step', 'Step one exit', vm => vm.state === 'paused' && vm.canStep],
  ['step-back', 'Step back one exit', vm => vm.state !== 'running' && vm.canGoBack && vm.exits > 0],
  ['snapshot', 'Take a snapshot', () => true],
  ['restore', 'Go to the last snapshot taken here', vm => vm.snapshots > 0],
  ['stop', 'Stop and close', () => true]
];
const SIGNS = { running: '▶', paused: '❚❚', ended: '■' };
const EMPTY =
  'No virtual machines in the running kernels. This makes one, in a notebook: ' +
  'import vlab; vm = vlab.VM("wren")';

/** Opens the dashboard of a virtual machine; says what is in the way if it cannot. */
export type Opener = (line: Line, vm: IReport) => Promise<void>;

export class MachinesPanel extends Widget {
  constructor(machines: Machines, open: Opener) {
    super();
    this.id = 'vlab-machines';
    this.addClass('vlab-machines');
    this.title.icon = vlabIcon;
    this.title.caption = 'vlab: virtual machines';
    this.node.setAttribute('aria-label', 'Virtual machines');
    this.node.setAttribute('role', 'region');
    this._machines = machines;
    this._open = open;
    const all = (action: string, label: string) =>
      node('button', { type: 'button', class: 'vlab-all', onclick: () => void this.askAll(action) }, label);
    this._all = node('div', { class: 'vlab-bar' }, all('pause', 'Pause all'), all('stop', 'Stop all'));
    this._list = node('div', { class: 'vlab-list' });
    this._status = node('div', { class: 'vlab-status', role: 'status', 'aria-live': 'polite' });
    this.node.append(node('h2', {}, 'Virtual machines'), this._all, this._list, this._status);
    machines.changed.connect(this._refresh, this);
    machines.answered.connect((_, answer) => this.say(answer));
    this._refresh();
  }

  /** Tell the user what came of something. */
  say({ said, problem }: IAnswer): void {
    this._status.textContent = (problem ? '⚠ ' : '') + said;
    this._status.classList.toggle('vlab-problem', problem);
  }

  /** Ask something of all virtual machines, of which stopping them is asked twice. */
  async askAll(action: string): Promise<void> {
    if (action !== 'stop' || (await sure('Stop all virtual machines?', 'Stop all'))) {
      await this._machines.askAll(action);
    }
  }

  protected onAfterShow(_message: Message): void {
    this._machines.watch(true);
  }

  protected onAfterHide(_message: Message): void {
    this._machines.watch(false);
  }

  private _refresh(): void {
    const seen = new Set<string>();
    for (const line of this._machines.lines) {
      for (const vm of line.vms) {
        const key = `${line.kernelId} ${vm.number}`;
        seen.add(key);
        let entry = this._entries.get(key);
        if (!entry) {
          entry = new Entry(line, vm, this._ask, this._show);
          this._entries.set(key, entry);
          this._section(line).append(entry.root);
        }
        entry.update(vm);
      }
    }
    for (const [key, entry] of this._entries) {
      if (!seen.has(key)) {
        entry.root.remove();
        this._entries.delete(key);
      }
    }
    this._tidy(seen.size === 0);
  }

  /** Where the virtual machines of a kernel are listed. */
  private _section(line: Line): HTMLElement {
    let section = this._sections.get(line.kernelId);
    if (!section) {
      const title = this._machines.titleOf(line);
      section = node('section', { 'aria-label': title }, node('h3', {}, title));
      this._sections.set(line.kernelId, section);
      this._list.append(section);
    }
    return section;
  }

  private _tidy(empty: boolean): void {
    for (const [id, section] of this._sections) {
      if (section.childElementCount < 2) {
        section.remove();
        this._sections.delete(id);
      }
    }
    this._all.hidden = empty;
    if (empty) {
      this._list.replaceChildren(node('p', { class: 'vlab-empty' }, EMPTY));
    } else {
      this._list.querySelector('.vlab-empty')?.remove();
    }
  }

  private _ask = async (line: Line, vm: IReport, action: string): Promise<void> => {
    const title = `Stop ${vm.name || vm.guest}?`;
    if (action !== 'stop' || (await sure(title, 'Stop'))) {
      line.ask(action, vm.number);
    }
  };

  private _show = async (line: Line, vm: IReport): Promise<void> => {
    try {
      await this._open(line, vm);
    } catch (error) {
      this.say({ said: (error as Error).message, problem: true });
    }
  };

  private _machines: Machines;
  private _open: Opener;
  private _all: HTMLElement;
  private _list: HTMLElement;
  private _status: HTMLElement;
  private _entries = new Map<string, Entry>();
  private _sections = new Map<string, HTMLElement>();
}

/** One virtual machine. Its elements stay, so that focus does; only what they say changes. */
class Entry {
  constructor(
    line: Line,
    vm: IReport,
    ask: (line: Line, vm: IReport, action: string) => Promise<void>,
    show: (line: Line, vm: IReport) => Promise<void>
  ) {
    this._vm = vm;
    this._name = node('button', {
      type: 'button',
      class: 'vlab-name',
      title: 'Open its dashboard beside the notebook',
      onclick: () => void show(line, this._vm)
    });
    this._state = node('span', { class: 'vlab-state' });
    this._facts = node('div', { class: 'vlab-facts' });
    this._pace = node('div', { class: 'vlab-facts' });
    this._tools = node('div', { class: 'vlab-tools', role: 'toolbar', onkeydown: this._moved });
    for (const [action, label] of ACTIONS) {
      const button = node('button', {
        type: 'button',
        title: label,
        'aria-label': label,
        'data-action': action,
        onclick: () => {
          if (button.getAttribute('aria-disabled') !== 'true') {
            void ask(line, this._vm, action);
          }
        }
      });
      ACTION_ICONS[action].element({ container: button, tag: 'span' });
      this._tools.append(button);
    }
    this._reach(this._tools.firstElementChild as HTMLElement);
    const head = node('div', { class: 'vlab-head' }, this._name, this._state);
    const parts = [head, this._facts, this._pace, this._tools];
    this.root = node('div', { class: 'vlab-entry', role: 'group' }, ...parts);
  }

  readonly root: HTMLElement;

  update(vm: IReport): void {
    this._vm = vm;
    const name = titleOf(vm);
    const state = vm.state + (vm.inCell ? ' in a cell' : '');
    write(this._name, name);
    write(this._state, `${SIGNS[vm.state]} ${state}`);
    this._state.dataset.state = vm.state;
    this._state.title = vm.ending;
    write(this._facts, `${vm.monitor} / ${vm.paging}, ${memory(vm.memory)}`);
    const pace = vm.state === 'running' ? `, ${count(vm.rate)} a second` : '';
    write(this._pace, `${count(vm.exits)} exits${pace}`);
    this.root.setAttribute('aria-label', `${name}, ${state}`);
    this._tools.setAttribute('aria-label', `What to do with ${name}`);
    ACTIONS.forEach(([, , able], index) => {
      // Not the attribute `disabled`: a button that has focus must not lose it under the user's fingers.
      this._tools.children[index].setAttribute('aria-disabled', String(!able(vm)));
    });
  }

  /** Arrow keys move among the buttons, of which one at a time is in the order of Tab. */
  private _moved = (event: KeyboardEvent): void => {
    const buttons = [...this._tools.children] as HTMLElement[];
    const now = buttons.indexOf(event.target as HTMLElement);
    const last = buttons.length - 1;
    const places: Record<string, number> = {
      ArrowRight: now === last ? 0 : now + 1,
      ArrowLeft: now === 0 ? last : now - 1,
      Home: 0,
      End: last
    };
    if (now >= 0 && event.key in places) {
      event.preventDefault();
      this._reach(buttons[places[event.key]]);
      buttons[places[event.key]].focus();
    }
  };

  private _reach(wanted: HTMLElement): void {
    for (const button of this._tools.children) {
      (button as HTMLElement).tabIndex = button === wanted ? 0 : -1;
    }
  }

  private _vm: IReport;
  private _name: HTMLElement;
  private _state: HTMLElement;
  private _facts: HTMLElement;
  private _pace: HTMLElement;
  private _tools: HTMLElement;
}

function write(element: HTMLElement, text: string): void {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

function memory(bytes: number): string {
  return bytes < 2 ** 20 ? `${bytes >> 10} KiB` : `${bytes / 2 ** 20} MiB`;
}

async function sure(title: string, label: string): Promise<boolean> {
  const body = 'The guest ends, its memory is given back, and no cell can use it again.';
  const buttons = [Dialog.cancelButton(), Dialog.warnButton({ label })];
  return (await showDialog({ title, body, buttons, defaultButton: 0 })).button.accept;
}
