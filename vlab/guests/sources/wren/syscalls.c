/* System calls: one row for each number of syscall.h. Whatever comes from a program is checked before it is used:
 * numbers here, addresses in copy_in and copy_out. */
#include "kernel.h"

static int32_t call_sbrk(int32_t bytes)
{
    uint32_t old = current->heap_end, end = old + (uint32_t)bytes;
    if (bytes > 0 ? end < old || end > HEAP_LIMIT : end > old || end < current->heap_start)
        return E_FULL;
    current->heap_end = end;
    space_unmap(current->directory, (end + PAGE - 1) & -(uint32_t)PAGE, old);
    return (int32_t)old;
}

static int32_t call_open(const char *user_name, uint32_t flags)
{
    char name[NAME_SIZE];
    int result = copy_name(name, user_name);
    return result < 0 ? result : file_open(name, flags);
}

static int32_t call_unlink(const char *user_name)
{
    char name[NAME_SIZE];
    int result = copy_name(name, user_name);
    return result < 0 ? result : file_unlink(name);
}

static int32_t call_file(uint32_t n, void *user)
{
    struct file_info info;
    int result = file_info(n, &info);
    return result < 0 ? result : copy_out(user, &info, sizeof info);
}

static int32_t call_process(uint32_t n, void *user)
{
    struct process_info info;
    int result = process_info(n, &info);
    return result < 0 ? result : copy_out(user, &info, sizeof info);
}

static int32_t call_check(uint32_t n, void *user)
{
    struct check_info info;
    int result = check_info(n, &info);
    return result < 0 ? result : copy_out(user, &info, sizeof info);
}

static int32_t call_yield(void)
{
    uint32_t flags = irq_save();
    schedule();
    irq_restore(flags);
    return 0;
}

static int32_t call_exec(const char *user_name, char *const *user_arguments, struct frame *frame)
{
    int32_t result = exec_user(user_name, user_arguments, frame);
    return result < 0 ? result : (int32_t)frame->eax;
}

int32_t system_call(struct frame *frame)
{
    uint32_t first = frame->ebx, second = frame->ecx, third = frame->edx;
    switch (frame->eax) {
    case SYS_EXIT: process_exit((int)(first & 0x7F));
    case SYS_FORK: return process_fork(frame);
    case SYS_EXEC: return call_exec((const char *)first, (char *const *)second, frame);
    case SYS_WAIT: return process_wait((int *)first);
    case SYS_GETPID: return current->pid;
    case SYS_KILL: return process_kill((int)first);
    case SYS_SLEEP: return timer_sleep(first);
    case SYS_YIELD: return call_yield();
    case SYS_SBRK: return call_sbrk((int32_t)first);
    case SYS_OPEN: return call_open((const char *)first, second);
    case SYS_CLOSE: return file_close(first);
    case SYS_READ: return file_read(first, (char *)second, third);
    case SYS_WRITE: return file_write(first, (const char *)second, third);
    case SYS_DUP: return file_duplicate(first);
    case SYS_PIPE: return file_pipe((int *)first);
    case SYS_UNLINK: return call_unlink((const char *)first);
    case SYS_FILE: return call_file(first, (void *)second);
    case SYS_PROCESS: return call_process(first, (void *)second);
    case SYS_TICKS: return (int32_t)timer_ticks();
    case SYS_FRAMES: return (int32_t)frames_free();
    case SYS_BENCH: return kernel_bench(first, second, third);
    case SYS_CHECK: return call_check(first, (void *)second);
    default: return E_INVALID;
    }
}
