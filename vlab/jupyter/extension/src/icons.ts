// Small pictures, 16 by 16, in the colour of the text around them.

import { LabIcon } from '@jupyterlab/ui-components';

function icon(name: string, inside: string): LabIcon {
  const svgstr =
    '<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 16 16">' +
    `<g class="jp-icon3" fill="#616161">${inside}</g></svg>`;
  return new LabIcon({ name: `vlab:${name}`, svgstr });
}

const FRAME = 'M2 2h12v9H2zM3.5 3.5v6h9v-6zM5 13h6v1.5H5z';

export const vlabIcon = icon('vlab', `<path fill-rule="evenodd" d="${FRAME}"/><path d="M6.5 4.5l4 2-4 2z"/>`);
export const traceIcon = icon(
  'trace',
  '<path d="M2 2h1.5v10.5H14V14H2zM5 8h1.5v4H5zM8 4h1.5v8H8zM11 6h1.5v6H11z"/>'
);

export const ACTION_ICONS: Record<string, LabIcon> = {
  pause: icon('pause', '<path d="M4 3h3v10H4zM9 3h3v10H9z"/>'),
  resume: icon('resume', '<path d="M4 2.5l9 5.5-9 5.5z"/>'),
  step: icon('step', '<path d="M3 3l7 5-7 5zM11 3h2v10h-2z"/>'),
  'step-back': icon('step-back', '<path d="M13 3L6 8l7 5zM3 3h2v10H3z"/>'),
  snapshot: icon(
    'snapshot',
    '<path fill-rule="evenodd" d="M1 4h4l1-1.5h4L11 4h4v9H1zM8 5.5a3 3 0 1 0 0 6 3 3 0 0 0 0-6z"/>'
  ),
  restore: icon('restore', '<path d="M8 3a5 5 0 1 1-4.9 6h1.6A3.5 3.5 0 1 0 8 4.5V7L4 3.7 8 .5z"/>'),
  stop: icon('stop', '<path d="M3 3h10v10H3z"/>')
};
