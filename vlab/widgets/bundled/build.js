// Makes xterm.js and xterm.css in the folder that is named. All names of theirs stay inside one function:
// vlab puts several modules into one text.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildSync } from "esbuild";

const folder = process.argv[2];
const packages = ["@xterm/xterm", "@xterm/addon-fit"];
const of = (name, file) => readFileSync(join("node_modules", name, file), "utf8").trim();
const licences = packages.map((name) =>
  `${name} ${JSON.parse(of(name, "package.json")).version}, under the MIT licence:\n\n${of(name, "LICENSE")}`);
const notice = `/*!\nMade by vlab/widgets/bundled; do not edit.\n\n${licences.join("\n\n")}\n*/\n`;

const common = { bundle: true, minify: true, legalComments: "none", write: false };
const [script] = buildSync({
  ...common, entryPoints: ["entry.js"], format: "iife", globalName: "bundledXterm", target: "es2022",
}).outputFiles;
const [style] = buildSync({ ...common, entryPoints: ["node_modules/@xterm/xterm/css/xterm.css"] }).outputFiles;
const names = "export const { Terminal: XtermTerminal, FitAddon: XtermFit } = bundledXterm;\n";
writeFileSync(join(folder, "xterm.js"), notice + script.text + names);
writeFileSync(join(folder, "xterm.css"), notice + style.text);
