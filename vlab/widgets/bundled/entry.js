// What the serial terminal needs of xterm.js.
export { Terminal } from "@xterm/xterm";
export { FitAddon } from "@xterm/addon-fit";
