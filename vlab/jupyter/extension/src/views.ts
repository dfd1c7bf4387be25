// The notebook views that show a recorded trace, here without a kernel: what Python would tell them beside
// the trace is in recorded.json, which the build has vlab/widgets/kernelless.py write.

import inspector from '../../../widgets/static/inspector.js';
import rings from '../../../widgets/static/rings.js';
import '../../../widgets/static/inspector.css';
import '../../../widgets/static/rings.css';
import { Trace } from '../../../widgets/static/trace.js';
import recorded from './recorded.json';

type Monitor = keyof typeof recorded.monitors;

/** Add the inspector and the rings to an element; the returned function ends them. */
export function addViews(el: HTMLElement, bytes: Uint8Array, trace: Trace): () => void {
  const told = String(trace.metadata['monitor']) as Monitor;
  const monitor = recorded.monitors[told] ?? recorded.monitors.hardware;
  const values: Record<string, unknown> = {
    trace: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    tables: recorded.tables,
    modes: recorded.modes,
    ...monitor,
    alive: true,
    live: false,
    here: -1
  };
  const model = {
    get: (name: string) => values[name],
    set: (name: string, value: unknown) => void (values[name] = value),
    save_changes: () => undefined,
    on: () => undefined,
    off: () => undefined,
    send: () => undefined
  };
  const ends = [inspector, rings].map(view => view.render({ model, el }));
  return () => ends.forEach(end => end());
}
