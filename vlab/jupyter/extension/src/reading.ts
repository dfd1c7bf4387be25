// Reads a .vlabtrace file from a document: its bytes, checked, as a trace; or one sentence on what is wrong.

import { readTrace, Trace } from '../../../widgets/static/trace.js';

const CHECKSUM = 32;
const OURS = /^(this is no|the trace)/;

/** Give the bytes that JupyterLab holds as base64. */
export function bytesOf(base64: string): Uint8Array {
  const text = atob(base64.replace(/\s/g, ''));
  const bytes = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place++) {
    bytes[place] = text.charCodeAt(place);
  }
  return bytes;
}

/** Read a trace. Raises an Error with one sentence. */
export async function read(bytes: Uint8Array): Promise<Trace> {
  let trace: Trace;
  try {
    trace = await readTrace(bytes);
  } catch (error) {
    const said = (error as Error).message;
    throw new Error(OURS.test(said) ? said : 'the trace is damaged; copy it again');
  }
  if (!(await isWhole(bytes))) {
    throw new Error('the trace was changed since it was written: its checksum does not match');
  }
  return trace;
}

/** Whether the SHA-256 at the end is that of what is before it; browsers compute it on safe pages alone. */
async function isWhole(bytes: Uint8Array): Promise<boolean> {
  if (!crypto.subtle) {
    return true;
  }
  const digest = await crypto.subtle.digest('SHA-256', bytes.slice(0, -CHECKSUM));
  const found = bytes.subarray(-CHECKSUM);
  return new Uint8Array(digest).every((byte, place) => byte === found[place]);
}
