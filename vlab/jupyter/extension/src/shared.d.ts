// What we use of the ES modules that notebook views are made of (vlab/widgets/static).

declare module '*/widgets/static/common.js' {
  type Child = Node | string | null | undefined;
  type Attributes = Record<string, unknown>;
  export function node<Tag extends keyof HTMLElementTagNameMap>(
    tag: Tag,
    attributes?: Attributes,
    ...children: (Child | Child[])[]
  ): HTMLElementTagNameMap[Tag];
  export function view(el: Element, label: string, ...children: (Child | Child[])[]): HTMLElement & {
    say(text: string): void;
  };
  export function count(value: number): string;
  export function milliseconds(ns: number): string;
}

declare module '*/widgets/static/trace.js' {
  export class Trace {
    readonly metadata: Record<string, unknown>;
    readonly reasons: string[];
    readonly time: Float64Array;
    readonly exits: Uint32Array;
    readonly columns: Record<string, any>;
    readonly length: number;
  }
  export function readTrace(source: DataView | ArrayBuffer | Uint8Array): Promise<Trace>;
}

declare module '*/widgets/static/inspector.js' {
  const view: { render(options: { model: object; el: HTMLElement }): () => void };
  export default view;
}

declare module '*/widgets/static/rings.js' {
  const view: { render(options: { model: object; el: HTMLElement }): () => void };
  export default view;
}

declare module '*.css';
