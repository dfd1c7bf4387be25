/* Power-on self test: bring the chips into the state that the PC's software expects, fill in the vector table
 * and the BIOS data area, and look for option ROMs. entry.S calls these in order and then boots. */
#include "bios.h"

enum {
    PIC_MASTER = 0x20, /* + 1: data */
    PIC_SLAVE = 0xA0,
    PIT_CHANNEL_0 = 0x40,
    PIT_CONTROL = 0x43,
    OPTION_ROM_END = 0xF000, /* segment behind the last place for one: our own ROM */
};

/* entry.S */
extern const uint16_t unclaimed_vectors[16];
void ignore(void), irq_0(void), irq_1(void), irq_8(void), unclaimed_slave_irq(void), halt(void);
void int_10(void), int_11(void), int_12(void), int_13(void), int_14(void), int_15(void), int_16(void);
void int_18(void), int_19(void), int_1a(void), diskette_table(void);

static void set_vector(unsigned vector, uint16_t offset)
{
    ((volatile uint16_t __seg_fs *)0)[2 * vector] = offset;
    ((volatile uint16_t __seg_fs *)0)[2 * vector + 1] = offset ? ROM_SEGMENT : 0;
}

static void init_vectors(void)
{
    static const struct { uint8_t vector; void (*handler)(void); } services[] = {
        { 0x08, irq_0 }, { 0x09, irq_1 }, { 0x10, int_10 }, { 0x11, int_11 }, { 0x12, int_12 },
        { 0x13, int_13 }, { 0x14, int_14 }, { 0x15, int_15 }, { 0x16, int_16 }, { 0x18, int_18 },
        { 0x19, int_19 }, { 0x1A, int_1a },
        { 0x1E, diskette_table }, { 0x40, int_13 }, { 0x70, irq_8 },
    };
    for (unsigned vector = 0; vector < 0x60; vector++)
        set_vector(vector, (uint16_t)(uint32_t)ignore);
    for (unsigned vector = 0x60; vector < 0x100; vector++)
        set_vector(vector, 0); /* by custom the user's */
    set_vector(0x00, unclaimed_vectors[0]);
    for (unsigned vector = 0x06; vector < 0x10; vector++)
        set_vector(vector, unclaimed_vectors[vector]);
    for (unsigned vector = 0x71; vector < 0x78; vector++)
        set_vector(vector, (uint16_t)(uint32_t)unclaimed_slave_irq);
    set_vector(0x1D, 0);
    set_vector(0x1F, 0); /* no font in this ROM */
    set_vector(0x43, 0);
    for (unsigned i = 0; i < sizeof services / sizeof services[0]; i++)
        set_vector(services[i].vector, (uint16_t)(uint32_t)services[i].handler);
}

/* Two 8259A in cascade, edge-triggered: IRQ 0-7 at vector 08, IRQ 8-15 at vector 70 (8259A data sheet,
 * "Initialization command words"). Timer, keyboard and cascade are let through, the rest waits for a
 * driver. */
static void init_interrupt_controllers(void)
{
    out8(PIC_MASTER, 0x11); /* ICW1: edge, cascade, ICW4 follows */
    out8(PIC_SLAVE, 0x11);
    out8(PIC_MASTER + 1, 0x08); /* ICW2: vectors */
    out8(PIC_SLAVE + 1, 0x70);
    out8(PIC_MASTER + 1, 0x04); /* ICW3: the slave is on IRQ 2 */
    out8(PIC_SLAVE + 1, 0x02);
    out8(PIC_MASTER + 1, 0x01); /* ICW4: 8086 mode, normal end of interrupt */
    out8(PIC_SLAVE + 1, 0x01);
    out8(PIC_MASTER + 1, 0xF8);
    out8(PIC_SLAVE + 1, 0xFF);
}

/* Channel 0 divides 1.193182 MHz by 65536: 18.2065 interrupts a second. Mode 2 and not the original's mode 3,
 * for its count goes down by one, and INT 15h AH=86h measures time with it. */
static void init_timer(void)
{
    out8(PIT_CONTROL, 0x34);
    out8(PIT_CHANNEL_0, 0);
    out8(PIT_CHANNEL_0, 0);
}

static void clear_bios_data(void)
{
    for (unsigned offset = 0; offset < 0x100; offset++)
        ((volatile uint8_t __seg_fs *)0x400)[offset] = 0;
    bda->ebda_segment = DATA_SEGMENT;
    bda->base_memory_kib = BASE_MEMORY_KIB;
    bda->equipment = 0x0022; /* a coprocessor, an 80 x 25 colour screen; the parts add themselves */
}

enum verdict post_early(void)
{
    clear_bios_data();
    init_vectors();
    init_interrupt_controllers();
    init_timer();
    serial_init();
    video_init();
    keyboard_init();
    clock_init();
    disk_init();
    print("vlab firmware: ");
    print_decimal(memory_below_4g() >> 10);
    print(" MiB of memory\r\n");
    return DONE;
}

/* AX = the segment to start at. An option ROM starts with 55 AA and its length in units of 512 bytes, lies
 * on a 2 KiB boundary, and its bytes add up to zero. Returns its segment in AX, or 0. */
enum verdict find_option_rom(void)
{
    uint32_t segment = caller.ax;
    for (; segment < OPTION_ROM_END; segment += 0x80) {
        use_segment((uint16_t)segment);
        if (far16(0) != 0xAA55)
            continue;
        uint32_t bytes = far8(2) * 512u;
        uint8_t sum = 0;
        for (uint32_t offset = 0; offset < bytes && bytes <= 0x10000; offset++)
            sum += far8(offset);
        if (bytes && bytes <= 0x10000 && !sum)
            break;
    }
    caller.ax = segment < OPTION_ROM_END ? (uint16_t)segment : 0;
    return DONE;
}

/* INT 11h: the equipment word. */
enum verdict equipment_service(void)
{
    caller.ax = bda->equipment;
    return DONE;
}

/* INT 12h: KiB of memory below the extended BIOS data area. */
enum verdict memory_size_service(void)
{
    caller.ax = bda->base_memory_kib;
    return DONE;
}
