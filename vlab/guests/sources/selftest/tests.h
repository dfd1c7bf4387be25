/* The groups of checks, in the order in which they run (main.c). */
#pragma once

void test_processor(void);
void test_exceptions(void);
void test_rings(void);
void test_gates_16(void);
void test_tasks(void);
void test_ports(void);
void test_system_calls(void);
void test_virtual_8086(void);
void test_real_mode(void);
void test_paging(void);
void test_interrupts(void);
void test_local_apic(void);
void test_long_mode(void);
