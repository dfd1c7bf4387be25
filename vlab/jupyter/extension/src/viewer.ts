// The document view of .vlabtrace files: what was recorded, and the views that play it. No kernel is needed.

import { ABCWidgetFactory, DocumentRegistry, DocumentWidget } from '@jupyterlab/docregistry';
import { Widget } from '@lumino/widgets';

import { count, milliseconds, node, view } from '../../../widgets/static/common.js';
import { Trace } from '../../../widgets/static/trace.js';
import { traceIcon } from './icons';
import { bytesOf, read } from './reading';
import { addViews } from './views';

export const FILE_TYPE = 'vlabtrace';
const FACTORY = 'vlab trace';

/** Make JupyterLab know the files and open them. */
export function registerViewer(registry: DocumentRegistry): TraceFactory {
  registry.addFileType({
    name: FILE_TYPE,
    displayName: 'vlab trace',
    extensions: ['.vlabtrace'],
    mimeTypes: ['application/vnd.vlab.trace'],
    contentType: 'file',
    fileFormat: 'base64',
    icon: traceIcon
  });
  const factory = new TraceFactory({
    name: FACTORY,
    modelName: 'base64',
    fileTypes: [FILE_TYPE],
    defaultFor: [FILE_TYPE],
    readOnly: true
  });
  registry.addWidgetFactory(factory);
  return factory;
}

class TraceFactory extends ABCWidgetFactory<DocumentWidget<TraceViewer>> {
  protected createNewWidget(context: DocumentRegistry.Context): DocumentWidget<TraceViewer> {
    const widget = new DocumentWidget({ content: new TraceViewer(context), context });
    widget.title.icon = traceIcon;
    return widget;
  }
}

class TraceViewer extends Widget {
  constructor(context: DocumentRegistry.Context) {
    super();
    this.addClass('vlab-trace');
    this.node.tabIndex = -1;
    const show = () => void this._show(context.model.toString(), context.path);
    void context.ready.then(() => {
      show();
      context.model.contentChanged.connect(show);
    });
  }

  dispose(): void {
    this._end();
    super.dispose();
  }

  private async _show(content: string, path: string): Promise<void> {
    const turn = ++this._turn;
    const name = path.split('/').pop()!;
    try {
      const bytes = bytesOf(content);
      const trace = await read(bytes);
      if (turn === this._turn && !this.isDisposed) {
        this._end();
        this.node.replaceChildren();
        summarize(this.node, name, trace);
        if (trace.length) {
          this._end = addViews(this.node, bytes, trace);
        }
      }
    } catch (error) {
      this._end();
      this.node.replaceChildren();
      const said = `${name}: ${(error as Error).message}.`;
      view(this.node, name, node('p', { class: 'problem', role: 'alert' }, said));
    }
  }

  private _turn = 0;
  private _end: () => void = () => undefined;
}

/** What was recorded, and how many exits there were for which reason. */
function summarize(el: HTMLElement, name: string, trace: Trace): void {
  const { metadata } = trace;
  const told = (key: string) => String(metadata[key] ?? 'not told');
  const size = Number(metadata['memory_bytes']);
  const last = trace.time.length ? trace.time[trace.time.length - 1] : 0;
  const facts: [string, string][] = [
    ['guest', told('guest')],
    ['monitor', `${told('monitor')}, paging ${told('paging')}`],
    ['memory', size ? `${size / 2 ** 20} MiB` : 'not told'],
    ['recorded', recordedIn(trace, last)]
  ];
  const list = node('dl', { class: 'vlab-summary' }, ...facts.flatMap(pair => definition(...pair)));
  view(el, `Summary of ${name}`, node('h2', {}, name), list, trace.length ? reasonTable(trace) : null);
}

function recordedIn(trace: Trace, last: number): string {
  return trace.length
    ? `${count(trace.length)} exits in ${milliseconds(last)} of virtual time`
    : "no single exits; a VM made with trace='full' records them";
}

function definition(name: string, text: string): [HTMLElement, HTMLElement] {
  return [node('dt', {}, name), node('dd', {}, text)];
}

function reasonTable(trace: Trace): HTMLElement {
  const totals = new Map<string, number>();
  for (const row of trace.exits) {
    const reason = trace.reasons[trace.columns.reason[row]];
    totals.set(reason, (totals.get(reason) ?? 0) + 1);
  }
  const ordered = [...totals].sort((one, other) => other[1] - one[1]);
  const most = ordered[0]?.[1] ?? 1;
  const rows = ordered.map(([reason, total]) => {
    const bar = node('div', { class: 'vlab-amount', style: `width: ${(100 * total) / most}%` });
    const share = `${((100 * total) / trace.length).toFixed(1)} %`;
    return node(
      'tr',
      {},
      node('th', { scope: 'row' }, reason),
      node('td', { class: 'number' }, count(total)),
      node('td', { class: 'number' }, share),
      node('td', { class: 'vlab-amounts', 'aria-hidden': 'true' }, bar)
    );
  });
  const heads = ['reason', 'exits', 'share', ''].map(text => node('th', { scope: 'col' }, text));
  const body = node('tbody', {}, ...rows);
  const caption = node('caption', {}, 'Exits by reason');
  return node('table', { class: 'vlab-reasons' }, caption, node('thead', {}, node('tr', {}, ...heads)), body);
}
