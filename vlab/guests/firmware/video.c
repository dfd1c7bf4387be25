/* INT 10h: text on the screen, 80 x 25, eight pages at B8000. Teletype output goes to COM1 as well. */
#include "bios.h"
#include "vga.h"

enum {
    VIDEO_SEGMENT = 0xB800,
    COLUMNS = 80,
    ROWS = 25,
    PAGES = 8,
    PAGE_CELLS = 0x800, /* 4 KiB: 2000 cells are used */
    LIGHT_GREY = 0x07,
    BLANK = ' ' | LIGHT_GREY << 8,
    CURSOR_SHAPE = 0x0D0E, /* the two lowest lines of the character */
};

struct window { unsigned top, left, bottom, right; };

/* Programs may set the cursor far outside the screen: stay within the 32 KiB. */
static volatile uint16_t __seg_gs *cell(unsigned page, unsigned row, unsigned column)
{
    return &far16(2 * ((page * PAGE_CELLS + row * COLUMNS + column) % (PAGES * PAGE_CELLS)));
}

static unsigned page_of(uint8_t page)
{
    return page < PAGES ? page : 0;
}

static void set_cursor(unsigned page, unsigned row, unsigned column)
{
    bda->cursor[page] = (uint16_t)(row << 8 | column);
    if (page == bda->page)
        vga_set_crtc_pair(CRTC_CURSOR_ADDRESS, (uint16_t)(page * PAGE_CELLS + row * COLUMNS + column));
}

static void select_page(unsigned page)
{
    bda->page = (uint8_t)page;
    bda->page_start = (uint16_t)(2 * page * PAGE_CELLS);
    vga_set_crtc_pair(CRTC_START_ADDRESS, (uint16_t)(page * PAGE_CELLS));
    set_cursor(page, bda->cursor[page] >> 8, bda->cursor[page] & 0xFF);
}

static void set_cursor_shape(uint16_t shape)
{
    bda->cursor_shape = shape;
    /* Programs still speak of the 8 lines of a CGA character: stretch those to our 16. */
    unsigned start = shape >> 8 & 0x1F, end = shape & 0x1F;
    if (end < 8 && start < 8 && !(shape & 0x2000)) {
        start = 2 * start + (start > 2);
        end = 2 * end;
    }
    vga_set_crtc_pair(CRTC_CURSOR_SHAPE, (uint16_t)((start | (shape >> 8 & 0x20)) << 8 | end));
}

/* AH=00h. Text modes give an empty screen of 80 x 25; graphics modes are not there and change nothing. */
static void set_mode(uint8_t mode)
{
    if ((mode & 0x7F) > 3 && (mode & 0x7F) != 7)
        return;
    vga_set_text_mode();
    use_segment(VIDEO_SEGMENT);
    if (!(mode & 0x80))
        for (unsigned i = 0; i < PAGES * PAGE_CELLS; i++)
            far16(2 * i) = BLANK;
    bda->video_mode = 3;
    bda->columns = COLUMNS;
    bda->page_bytes = 2 * PAGE_CELLS;
    bda->crtc_port = 0x3D4;
    bda->crt_mode = 0x29;
    bda->crt_palette = 0x30;
    bda->rows_less_one = ROWS - 1;
    bda->character_height = 16;
    bda->video_control = 0x60 | (mode & 0x80);
    bda->video_switches = 0xF9;
    bda->video_flags = 0x51;
    for (unsigned page = 0; page < PAGES; page++)
        bda->cursor[page] = 0;
    select_page(0);
    set_cursor_shape(CURSOR_SHAPE);
}

static void move_line(unsigned page, const struct window *w, unsigned to, unsigned from)
{
    for (unsigned column = w->left; column <= w->right; column++)
        *cell(page, to, column) = *cell(page, from, column);
}

static void clear_line(unsigned page, const struct window *w, unsigned row, uint8_t attribute)
{
    for (unsigned column = w->left; column <= w->right; column++)
        *cell(page, row, column) = (uint16_t)(' ' | attribute << 8);
}

/* Move the window's text up by `lines` (down if `down`); 0, or more than there are, clears it. */
static void scroll(unsigned page, struct window w, unsigned lines, uint8_t attribute, bool down)
{
    if (w.bottom >= ROWS)
        w.bottom = ROWS - 1;
    if (w.right >= COLUMNS)
        w.right = COLUMNS - 1;
    if (w.top > w.bottom || w.left > w.right)
        return;
    unsigned height = w.bottom - w.top + 1;
    if (lines == 0 || lines > height)
        lines = height;
    use_segment(VIDEO_SEGMENT);
    for (unsigned i = 0; i < height; i++) {
        unsigned row = down ? w.bottom - i : w.top + i;
        if (i + lines < height)
            move_line(page, &w, row, down ? row - lines : row + lines);
        else
            clear_line(page, &w, row, attribute);
    }
}

/* Write one character where the cursor is and move on; `attribute` < 0 keeps the one that is there. */
static void write_moving(uint8_t character, unsigned page, int attribute)
{
    unsigned row = bda->cursor[page] >> 8, column = bda->cursor[page] & 0xFF;
    use_segment(VIDEO_SEGMENT);
    switch (character) {
    case '\a': break;
    case '\b': column -= column > 0; break;
    case '\r': column = 0; break;
    case '\n': row++; break;
    default:
        if (attribute < 0)
            attribute = *cell(page, row, column) >> 8;
        *cell(page, row, column) = (uint16_t)(character | attribute << 8);
        if (++column == COLUMNS) {
            column = 0;
            row++;
        }
    }
    if (row >= ROWS) {
        uint8_t below = (uint8_t)(*cell(page, ROWS - 1, 0) >> 8);
        scroll(page, (struct window){ 0, 0, ROWS - 1, COLUMNS - 1 }, 1, below, false);
        row = ROWS - 1;
    }
    set_cursor(page, row, column);
}

void teletype(uint8_t character, uint8_t page)
{
    serial_send(character);
    write_moving(character, page_of(page), -1);
}

void print(const char *text)
{
    while (*text)
        teletype((uint8_t)*text++, bda->page);
}

void print_hex(uint32_t value, unsigned digits)
{
    while (digits < 8 && value >> (4 * digits))
        digits++;
    while (digits--)
        teletype((uint8_t)"0123456789abcdef"[value >> (4 * digits) & 15], bda->page);
}

void print_decimal(uint32_t value)
{
    uint32_t unit = 1;
    while (value / unit >= 10)
        unit *= 10;
    for (; unit; unit /= 10)
        teletype((uint8_t)('0' + value / unit % 10), bda->page);
}

void video_init(void)
{
    set_mode(3);
}

/* AH=09h and 0Ah: CX copies of AL from the cursor on, which stays. */
static void write_copies(bool with_attribute)
{
    unsigned page = page_of(caller.bh), row = bda->cursor[page] >> 8, column = bda->cursor[page] & 0xFF;
    use_segment(VIDEO_SEGMENT);
    for (unsigned i = 0; i < caller.cx && row * COLUMNS + column + i < ROWS * COLUMNS; i++) {
        volatile uint16_t __seg_gs *place = cell(page, row, column + i);
        uint16_t attribute = with_attribute ? (uint16_t)(caller.bl << 8) : *place & 0xFF00;
        *place = attribute | caller.al;
    }
}

/* AH=13h: CX characters at ES:BP, from row DH and column DL. AL bit 0: the cursor moves along; bit 1: each
 * character brings its attribute. */
static void write_string(void)
{
    unsigned page = page_of(caller.bh), step = caller.al & 2 ? 2 : 1;
    uint16_t before = bda->cursor[page];
    set_cursor(page, caller.dh < ROWS ? caller.dh : ROWS - 1, caller.dl < COLUMNS ? caller.dl : COLUMNS - 1);
    for (unsigned i = 0; i < caller.cx; i++) {
        use_segment(caller.es);
        uint8_t character = far8((uint16_t)(caller.ebp + i * step));
        uint8_t attribute = step == 2 ? far8((uint16_t)(caller.ebp + i * step + 1)) : caller.bl;
        serial_send(character);
        write_moving(character, page, attribute);
    }
    if (!(caller.al & 1))
        set_cursor(page, before >> 8, before & 0xFF);
}

/* AH=06h and 07h: AL lines, BH the attribute of new lines, CX and DX the corners. */
static void scroll_window(bool down)
{
    scroll(bda->page, (struct window){ caller.ch, caller.cl, caller.dh, caller.dl }, caller.al, caller.bh,
        down);
}

/* AH=11h AL=30h: a character is 16 lines high; there is no font to point at. */
static void font_information(void)
{
    if (caller.al != 0x30)
        return;
    caller.cx = bda->character_height;
    caller.dl = bda->rows_less_one;
    caller.es = 0;
    caller.ebp = 0;
}

static void read_cursor(void)
{
    caller.dx = bda->cursor[page_of(caller.bh)];
    caller.cx = bda->cursor_shape;
}

static void read_cell(void)
{
    unsigned page = page_of(caller.bh);
    use_segment(VIDEO_SEGMENT);
    caller.ax = *cell(page, bda->cursor[page] >> 8, bda->cursor[page] & 0xFF);
}

static void read_state(void)
{
    caller.al = bda->video_mode | (bda->video_control & 0x80);
    caller.ah = (uint8_t)bda->columns;
    caller.bh = bda->page;
}

/* AH=12h BL=10h and AH=1Ah AL=00h: how programs find out that there is a VGA. */
static void read_adapter(void)
{
    if (caller.ah == 0x12 && caller.bl == 0x10) {
        caller.bx = 0x0003; /* colour, 256 KiB */
        caller.cx = 0x0009;
    } else if (caller.ah == 0x1A && caller.al == 0x00) {
        caller.al = 0x1A;
        caller.bx = 0x0008; /* VGA with a colour display */
    }
}

/* INT 10h. */
enum verdict video_service(void)
{
    switch (caller.ah) {
    case 0x00: set_mode(caller.al); break;
    case 0x01: set_cursor_shape(caller.cx); break;
    case 0x02: set_cursor(page_of(caller.bh), caller.dh, caller.dl); break;
    case 0x03: read_cursor(); break;
    case 0x05: select_page(page_of(caller.al)); break;
    case 0x06: scroll_window(false); break;
    case 0x07: scroll_window(true); break;
    case 0x08: read_cell(); break;
    case 0x09: write_copies(true); break;
    case 0x0A: write_copies(false); break;
    case 0x0E: teletype(caller.al, caller.bh); break;
    case 0x0F: read_state(); break;
    case 0x10: if (caller.al == 0x03) vga_set_blink(caller.bl & 1); break;
    case 0x11: font_information(); break;
    case 0x12:
    case 0x1A: read_adapter(); break;
    case 0x13: write_string(); break;
    default: break;
    }
    return DONE;
}
