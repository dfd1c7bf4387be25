// New notebooks, and the cards in the launcher.

import { JupyterFrontEnd } from '@jupyterlab/application';
import { ILauncher } from '@jupyterlab/launcher';
import { Contents } from '@jupyterlab/services';

const CATEGORY = 'vlab';
// Where `vlab lab` copies the lessons to, and where they are in a checkout or on a Binder.
const FOLDERS = ['vlab-labs', 'labs'];
const MARKDOWN =
  '# A first virtual machine\n\nRun the cells from the top with Shift+Enter. The fourth shows the machine: ' +
  'its guest is wren, a small Unix with a shell.';
const CELLS = [
  { cell_type: 'markdown', id: 'vlab-about', metadata: {}, source: MARKDOWN },
  ...[
    'import vlab',
    'vm = vlab.VM("wren", monitor="hardware", trace="full")\nvm.run(until="$ ")',
    'vm',
    'vm.exits.by_reason()'
  ].map((source, number) => ({
    cell_type: 'code',
    id: `vlab-cell-${number + 1}`,
    metadata: {},
    source,
    outputs: [],
    execution_count: null
  }))
];

/** Make a notebook with the first cells, in a folder. */
export async function newNotebook(app: JupyterFrontEnd, cwd: string): Promise<unknown> {
  await app.serviceManager.kernelspecs.ready;
  const specs = app.serviceManager.kernelspecs.specs;
  const python = Object.values(specs?.kernelspecs ?? {}).filter(spec => spec?.language === 'python');
  const kernelName = python.some(spec => spec?.name === specs?.default) ? specs?.default : python[0]?.name;
  const spec = kernelName ? specs?.kernelspecs[kernelName] : undefined;
  const content = {
    cells: CELLS,
    metadata: spec ? { kernelspec: { name: spec.name, display_name: spec.display_name } } : {},
    nbformat: 4,
    nbformat_minor: 5
  };
  const { contents } = app.serviceManager;
  const { path } = await contents.newUntitled({ path: cwd, type: 'notebook' });
  await contents.save(path, { type: 'notebook', format: 'json', content });
  return app.commands.execute('docmanager:open', { path });
}

/** Put the cards into the launcher: the commands, and a card for each lesson's notebook. */
export async function addCards(app: JupyterFrontEnd, launcher: ILauncher, commands: string[]): Promise<void> {
  commands.forEach((command, rank) => launcher.add({ command, category: CATEGORY, rank }));
  const lessons = await findLessons(app.serviceManager.contents);
  lessons.forEach((path, rank) => {
    launcher.add({ command: 'vlab:open-lesson', args: { path }, category: CATEGORY, rank: 10 + rank });
  });
}

/** What people call a lesson: "02-page-tables.ipynb" is "02 page tables". */
export function titleOf(path: string): string {
  const name = path.split('/').pop()!.replace(/\.ipynb$/, '');
  return name.replace(/[-_]+/g, ' ');
}

async function findLessons(contents: Contents.IManager): Promise<string[]> {
  const top = await entries(contents, '');
  const there = FOLDERS.find(name => top.some(entry => entry.type === 'directory' && entry.name === name));
  if (!there) {
    return []; // asking for a folder that is not there would leave an error in the server's log
  }
  const inside = await entries(contents, there);
  const folders = inside.filter(entry => entry.type === 'directory');
  const deeper = await Promise.all(folders.map(entry => entries(contents, entry.path)));
  return [inside, ...deeper]
    .flat()
    .filter(entry => entry.type === 'notebook')
    .map(entry => entry.path)
    .sort();
}

async function entries(contents: Contents.IManager, path: string): Promise<Contents.IModel[]> {
  try {
    const folder = await contents.get(path, { content: true });
    return Array.isArray(folder.content) ? folder.content : [];
  } catch {
    return [];
  }
}
