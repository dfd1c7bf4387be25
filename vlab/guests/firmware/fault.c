/* Vectors that nobody has claimed: device interrupts are acknowledged, exceptions are told to the user.
 *
 * The PC's own BIOS ignored exceptions, and a boot sector that divided by zero hung without a word. This
 * one says what happened and where, and halts. */
#include "bios.h"

enum { PIC_MASTER = 0x20, READ_IN_SERVICE = 0x0B, END_OF_INTERRUPT = 0x20 };

extern uint8_t vector_number;
void halt(void) __attribute__((noreturn));

static const char *exception_name(uint8_t vector)
{
    switch (vector) {
    case 0x00: return "divide error";
    case 0x06: return "invalid opcode";
    case 0x07: return "no coprocessor";
    case 0x08: return "double fault";
    case 0x0C: return "stack fault";
    case 0x0D: return "general protection";
    default: return "unexpected exception";
    }
}

static void tell(uint8_t vector)
{
    print("\r\nException ");
    print_hex(vector, 2);
    print(" (");
    print(exception_name(vector));
    print(") at ");
    print_hex(caller.cs, 4);
    print(":");
    print_hex(caller.ip, 4);
    print(", bytes");
    for (unsigned i = 0; i < 6; i++) {
        use_segment(caller.cs);
        uint8_t byte = far8((uint16_t)(caller.ip + i));
        print(" ");
        print_hex(byte, 2);
    }
    print(": halted.\r\n");
}

enum verdict unclaimed_vector(void)
{
    if (vector_number >= 8) {
        out8(PIC_MASTER, READ_IN_SERVICE);
        if (in8(PIC_MASTER) & 1 << (vector_number - 8)) {
            out8(PIC_MASTER, END_OF_INTERRUPT);
            return DONE;
        }
        if (vector_number == 0x0F)
            return DONE; /* IRQ 7 that is not in service: a spurious interrupt */
    }
    tell(vector_number);
    halt();
}
