/* wren: a small Unix-like kernel, written to be read. What its files share.
 *
 * Read them in this order:
 *     layout.h  segments.h  cpu.h        what is where, and how the processor is spoken to
 *     boot.S  sector.S  main.c           from the loader to the first program
 *     entry.S  traps.c  tables.c         into the kernel and out again
 *     memory.c  paging.c                 page frames; address spaces, copy-on-write, demand paging
 *     process.c  exec.c  timer.c         processes, the scheduler, programs, time
 *     syscalls.c  syscall.h              what programs can ask for
 *     files.c  ramdisk.S  pipe.c         open files, the RAM disk, pipes
 *     disk.c  ata.c                      files on a disk, and two drivers for it
 *     console.c  devices.c  format.c     the terminal, and the chips
 *     check.c  bench.c                   the kernel's parts of the self-test and of the benchmarks
 *     hypercall.h  paravirt.c            the same kernel without the privilege
 *     user/                              the library and the programs
 *
 * The rules of the kernel: system calls run with interrupts on, handlers with interrupts off; a process is preempted
 * only on the way back to its program, never in the kernel. What handlers touch too (the states of processes,
 * the input buffer) is guarded by irq_save (cpu.h). There is one processor.
 *
 * Manuals: Intel SDM, volume 3 (325384-081), cited as "SDM3 4.3"; AMD APM, volume 2, revision 3.42, as "APM2 5.2". */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu.h"
#include "syscall.h"

enum { PROCESSES = 24, OPEN_FILES = 8, PANIC_STATUS = 2 };

/* The stack after an entry into the kernel, lowest address first (entry.S). */
struct frame {
    uint32_t edi, esi, ebp, kernel_esp, ebx, edx, ecx, eax;
    uint32_t es, ds, vector, error_code;
    uint32_t eip, cs, eflags; /* pushed by the processor always, */
    uint32_t esp, ss;         /* and these when it came from ring 3 */
};

enum state { UNUSED, READY, SLEEPING, ZOMBIE };

struct process {
    int pid;
    enum state state;
    struct process *parent;
    uint32_t *directory;           /* 0 once the process has ended */
    char *kernel_stack;            /* one page */
    uint32_t kernel_esp;           /* while it does not run: what switch_stacks left there */
    const void *channel;           /* while it sleeps: what it waits for */
    uint32_t wake_at;              /* a tick; only if the channel is the clock */
    uint32_t heap_start, heap_end;
    int status;                    /* for the parent */
    bool killed;                   /* it ends at its next way out of the kernel */
    struct file *files[OPEN_FILES];
    char name[NAME_SIZE];
};

extern struct process *current;
extern uint32_t *kernel_space;  /* the directory that maps the kernel alone (paging.c) */
extern char image_end[], boot_stack[];

/* console.c, format.c */
void console_interrupt(void);
int console_read(char *to, uint32_t size);
void console_write(const char *text, uint32_t size);
void say(const char *format, ...);
void panic(const char *format, ...) __attribute__((noreturn));
void irq_must_be_off(const char *where);
unsigned format_text(char *to, unsigned size, const char *format, va_list *arguments);

/* entry.S */
void switch_stacks(uint32_t *save_esp, uint32_t load_esp);
void trap_return(void);
int copy_bytes(void *to, const void *from, uint32_t size); /* 0, or E_FAULT */
struct fixup {
    uint32_t fault, resume; /* EIP of an instruction that may fault in the kernel, and where to go on then */
};
extern const struct fixup fixups[2];
int divide_by_zero(void); /* 0 by way of #DE */

/* traps.c */
void trap(struct frame *frame);

/* memory.c: page frames, by physical address */
void frames_start(uint32_t size);
uint32_t frame_new(void); /* zeroed, with one reference; 0 when there is none */
uint32_t frame_copy(uint32_t frame);
void frame_share(uint32_t frame);
void frame_release(uint32_t frame);
unsigned frame_references(uint32_t frame);
unsigned frames_free(void);
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);

static inline void *frame_memory(uint32_t frame)
{
    return (void *)(frame + KERNEL_BASE);
}

/* paging.c */
void paging_start(uint32_t size);
uint32_t *space_new(void);
uint32_t *space_fork(uint32_t *parent);
void space_free(uint32_t *directory);
bool space_map(uint32_t *directory, uint32_t address, uint32_t frame, bool writable, bool in_use);
void space_unmap(uint32_t *directory, uint32_t from, uint32_t to);
bool page_fault(uint32_t address, bool write, bool present);
int copy_in(void *to, const void *user, uint32_t size);
int copy_out(void *user, const void *from, uint32_t size);
int copy_name(char *to, const char *user); /* NAME_SIZE bytes at most */

/* process.c */
struct process *process_new(void);
void process_start(const char *line);
int process_fork(const struct frame *frame);
void process_exit(int status) __attribute__((noreturn));
int process_wait(int *user_status);
int process_kill(int pid);
int process_info(unsigned n, struct process_info *info);
void sleep_on(const void *channel);
void wake_up(const void *channel);
void wake_sleepers(uint32_t now);
void schedule(void);

/* exec.c, main.c */
int exec(const char *name, const char *const *arguments, struct frame *frame);
int exec_user(const char *user_name, char *const *user_arguments, struct frame *frame);

/* check.c */
unsigned kernel_check(void);
int check_info(unsigned n, struct check_info *info);

/* timer.c */
uint32_t timer_ticks(void);
void timer_interrupt(void);
bool timer_slice_over(void);
int timer_sleep(uint32_t ticks);

bool space_flip(const uint32_t *directory, uint32_t address);

/* bench.c */
int kernel_bench(unsigned what, uint32_t count, uint32_t address);

/* syscalls.c */
int32_t system_call(struct frame *frame);

/* files.c, pipe.c */
struct inode;
void files_start(void);
struct inode *file_find(const char *name);
int inode_read(const struct inode *inode, uint32_t offset, void *to, uint32_t size);
int file_open(const char *name, unsigned flags);
int file_open_console(void);
int file_close(unsigned fd);
int file_read(unsigned fd, char *user, uint32_t size);
int file_write(unsigned fd, const char *user, uint32_t size);
int file_duplicate(unsigned fd);
int file_pipe(int *user_fds);
int file_unlink(const char *name);
int file_info(unsigned n, struct file_info *info);
void file_on_disk(const char *name, uint32_t sector, uint32_t size);
void files_inherit(struct process *child);
void files_close_all(void);

/* disk.c */
void disk_start(const char *command_line);
char *disk_place(uint32_t sector, uint32_t end, uint32_t offset, uint32_t *size);

struct pipe;
struct pipe *pipe_new(void);
void pipe_close(struct pipe *pipe, bool writing_end);
int pipe_read(struct pipe *pipe, char *to, uint32_t size);
int pipe_write(struct pipe *pipe, const char *from, uint32_t size);
