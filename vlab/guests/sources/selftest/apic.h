/* The local APIC, where there is one (APM2 16; its registers are memory, below 4 GiB). */
#pragma once

#include <stdbool.h>

/* Let the 8259's interrupts through pin LINT0, as if there were no APIC. Returns false if there is none. */
bool apic_virtual_wire(void);
