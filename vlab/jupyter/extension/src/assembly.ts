// Colours for cells of x86 assembly, in Intel syntax: those that begin with %%asm.

import { LanguageSupport, StreamLanguage, StreamParser, StringStream } from '@codemirror/language';
import { ICellModel } from '@jupyterlab/cells';
import { IEditorLanguageRegistry } from '@jupyterlab/codemirror';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';

const MIME = 'text/x-vlab-asm';
const MAGIC = /^\s*%%asm\b/;

function words(text: string): Set<string> {
  return new Set(text.trim().split(/\s+/));
}

const REGISTERS = new RegExp(
  '^(?:[abcd][lhx]|e?[abcd]x|r[abcd]x|[re]?(?:[sd]i|[sb]p)|(?:si|di|sp|bp)l|r(?:[89]|1[0-5])[bwd]?|[re]?ip' +
    '|[cdefgs]s|cr[02348]|dr[0-7]|xmm(?:\\d|1[0-5])|st(?:\\([0-7]\\))?)$'
);
const PREFIXES = words('rep repe repz repne repnz lock data16 data32 addr32 o16 o32');
const SIZES = words('byte word dword qword fword tbyte xmmword ptr offset short near far flat');
const MNEMONICS = words(`
  aaa aad aam aas adc add and arpl bound bsf bsr bswap bt btc btr bts call cbw cdq cdqe clc cld cli clts cmc
  clgi cmp cmps cmpsb cmpsd cmpsq cmpsw cmpxchg cmpxchg8b cmpxchg16b cpuid cqo cwd cwde daa das dec div enter
  fclex finit fld fld1 fldz fninit fnop fstp fwait hlt idiv imul in inc ins insb insd insw int int1 int3 into
  invd invlpg invlpga iret iretd iretq iretw jcxz jecxz jmp jrcxz lahf lar lds lea leave les lfence lfs lgdt
  lgs lidt lldt lmsw lods lodsb lodsd lodsq lodsw loop loope loopne loopnz loopz lret lsl lss ltr mfence mov
  movabs movd movq movs movsb movsd movsq movsw movsx movsxd movzx mul neg nop not or out outs outsb outsd
  outsw pause pop popa popad popf popfd popfq prefetch push pusha pushad pushf pushfd pushfq rcl rcr rdmsr
  rdpmc rdtsc rdtscp ret retf retn rol ror rsm sahf sal sar sbb scas scasb scasd scasq scasw sfence sgdt shl
  shld shr shrd sidt skinit sldt smsw stac clac stc std stgi sti stos stosb stosd stosq stosw str sub swapgs
  syscall sysenter sysexit sysret sysretq test ud2 verr verw vmcall vmload vmmcall vmrun vmsave wait wbinvd
  wrmsr xadd xchg xgetbv xlat xlatb xor xsetbv`);
const CONDITIONAL = /^(?:j|set|cmov)n?(?:[abgl]e?|[ceopsz]|p[eo])$/;
const DIRECTIVES = words(
  'db dw dd dq dt resb resw resd resq equ times org bits section segment global extern align'
);

interface IState {
  /** Where: at the beginning of a line or behind a `;`, where a mnemonic stands, or behind that. */
  place: 'start' | 'operands';
}

function token(stream: StringStream, state: IState): string | null {
  if (stream.sol()) {
    state.place = 'start';
    if (stream.match(MAGIC)) {
      stream.skipToEnd();
      return 'meta';
    }
  }
  if (stream.eatSpace()) {
    return null;
  }
  if (stream.match(/^(?:#|\/\/).*/)) {
    return 'comment';
  }
  if (stream.eat(';')) {
    state.place = 'start'; // another instruction follows
    return 'separator';
  }
  if (stream.match(/^"(?:[^"\\]|\\.)*"?/) || stream.match(/^'(?:[^'\\]|\\.)*'?/)) {
    return 'string';
  }
  if (stream.match(/^(?:0x[\da-f_]+|0b[01_]+|0o[0-7]+|\d[\da-f]*h|\d[\d_]*)\b/i)) {
    return 'number';
  }
  if (stream.match(/^\.?[A-Za-z_$][\w$.]*:|^\d+:/)) {
    return 'labelName';
  }
  const found = stream.match(/^[.%]?[A-Za-z_$][\w$.]*(?:\([0-7]\))?/) as RegExpMatchArray | null;
  if (found) {
    return word(found[0].toLowerCase().replace(/^%/, ''), state);
  }
  stream.next();
  return null;
}

function word(text: string, state: IState): string {
  if (state.place === 'start') {
    if (PREFIXES.has(text)) {
      return 'modifier';
    }
    state.place = 'operands';
    if (MNEMONICS.has(text) || CONDITIONAL.test(text)) {
      return 'keyword';
    }
    if (text.startsWith('.')) {
      return 'meta';
    }
  }
  if (DIRECTIVES.has(text)) {
    return 'meta';
  }
  if (REGISTERS.test(text)) {
    return 'atom';
  }
  return SIZES.has(text) ? 'typeName' : 'variableName';
}

export const parser: StreamParser<IState> = {
  name: 'vlab-asm',
  startState: () => ({ place: 'start' }),
  token,
  languageData: { commentTokens: { line: '#' } }
};

/** Register the language, and keep it on the cells that are in it. */
export function highlightAssembly(languages: IEditorLanguageRegistry, notebooks: INotebookTracker): void {
  languages.addLanguage({
    name: 'vlab-asm',
    displayName: 'x86 assembly, Intel syntax',
    mime: MIME,
    support: new LanguageSupport(StreamLanguage.define(parser))
  });
  notebooks.widgetAdded.connect((_, panel) => void follow(panel, languages));
  notebooks.forEach(panel => void follow(panel, languages));
}

async function follow(panel: NotebookPanel, languages: IEditorLanguageRegistry): Promise<void> {
  await panel.context.ready;
  const seen = new WeakSet<ICellModel>();
  const look = () => {
    for (const cell of panel.content.model?.cells ?? []) {
      if (!seen.has(cell)) {
        seen.add(cell);
        const apply = () => void applyTo(cell, panel, languages);
        cell.contentChanged.connect(apply);
        // JupyterLab sets all cells to the kernel's language whenever a kernel says what that is.
        cell.mimeTypeChanged.connect(apply);
      }
      void applyTo(cell, panel, languages);
    }
  };
  panel.content.model?.cells.changed.connect(look);
  panel.content.modelContentChanged.connect(look);
  look();
}

async function applyTo(
  cell: ICellModel,
  panel: NotebookPanel,
  languages: IEditorLanguageRegistry
): Promise<void> {
  const isAssembly = () => MAGIC.test(cell.sharedModel.getSource());
  if (cell.type === 'code' && isAssembly() && cell.mimeType !== MIME) {
    // The editor puts a language in when it has been loaded; the usual one must not come after ours.
    await languages.getLanguage(cell.mimeType);
    if (!panel.isDisposed && isAssembly()) {
      cell.mimeType = MIME;
    }
  } else if (!isAssembly() && cell.mimeType === MIME) {
    cell.mimeType = panel.content.codeMimetype;
  }
}
