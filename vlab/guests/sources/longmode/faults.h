/* The second half of the longmode guest. */
#pragma once

void show_faults(void);
