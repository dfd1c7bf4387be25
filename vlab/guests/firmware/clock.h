/* Waiting, for INT 15h. */
#pragma once

#include "bios.h"

enum verdict wait_microseconds(uint32_t microseconds);
