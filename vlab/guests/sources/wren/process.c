/* Processes and the scheduler.
 *
 * A process is an address space, a kernel stack and a slot in the table. It is READY (running or waiting for the
 * processor), SLEEPING on a channel (any address: whoever calls wake_up with the same one makes it ready again), or
 * a ZOMBIE: it has ended, and its slot keeps the status until the parent asks. Slot 0 is the boot's own thread, which
 * runs when nobody else can: it waits for interrupts.
 *
 * Between "there is nothing for me yet" and "I sleep now" no wake_up may slip in. So a sleeper switches interrupts off
 * before it looks, and sleep_on is called with interrupts off. They are on again in whatever runs next. */
#include "kernel.h"

static struct process table[PROCESSES];
static int last_pid;
struct process *current = &table[0];

struct process *process_new(void)
{
    for (struct process *process = &table[1]; process < &table[PROCESSES]; process++) {
        if (process->state != UNUSED)
            continue;
        uint32_t stack = frame_new();
        if (!stack)
            return 0;
        memset(process, 0, sizeof *process);
        process->kernel_stack = frame_memory(stack);
        process->pid = ++last_pid;
        process->parent = current;
        return process;
    }
    return 0;
}

static struct frame *frame_of(const struct process *process)
{
    return (struct frame *)(process->kernel_stack + PAGE) - 1;
}

/* Prepare the stack as if the process had called switch_stacks just before trap_return. */
static void make_ready(struct process *process)
{
    uint32_t *stack = (uint32_t *)frame_of(process);
    *--stack = (uint32_t)trap_return;
    stack -= 4; /* EBP, EDI, ESI, EBX */
    process->kernel_esp = (uint32_t)stack;
    process->state = READY;
}

/* Make the first process of a command line, and become the thread that waits for interrupts. */
void process_start(const char *line)
{
    static char words[ARGUMENTS * NAME_SIZE];
    const char *arguments[ARGUMENTS + 1] = { 0 };
    unsigned count = 0, length = 0;
    for (; *line && length < sizeof words - 1 && count < ARGUMENTS; count++) {
        arguments[count] = &words[length];
        while (*line && *line != ' ' && *line != '=' && length < sizeof words - 1)
            words[length++] = *line++;
        words[length++] = 0;
        if (*line)
            line++;
    }
    struct process *idler = current, *first = process_new();
    current = first;
    for (int fd = 0; fd < 3; fd++)
        file_open_console();
    if (exec(arguments[0], arguments, frame_of(first)) < 0)
        panic("%s cannot be started", arguments[0]);
    current = idler;
    make_ready(first);
    for (;;) {
        irq_disable();
        schedule();
        idle();
    }
}

static struct process *next_ready(void)
{
    unsigned from = (unsigned)(current - table);
    for (unsigned n = 1; n <= PROCESSES; n++) {
        struct process *process = &table[(from + n) % PROCESSES];
        if (process->state == READY)
            return process;
    }
    return &table[0];
}

/* Let the next process run, round robin; return when it is our turn again. The thread that waits for interrupts
 * needs no address space: it stays in the one before, whose kernel half is the same. */
void schedule(void)
{
    irq_must_be_off("schedule");
    struct process *before = current, *next = next_ready();
    if (next == before)
        return;
    current = next;
    if (next->directory) {
        set_kernel_stack((uint32_t)next->kernel_stack + PAGE);
        load_directory(next->directory);
    }
    switch_stacks(&before->kernel_esp, next->kernel_esp);
}

void sleep_on(const void *channel)
{
    irq_must_be_off("sleep_on");
    current->channel = channel;
    current->state = SLEEPING;
    schedule();
    irq_must_be_off("sleep_on, awake");
}

void wake_up(const void *channel)
{
    uint32_t flags = irq_save();
    irq_must_be_off("wake_up");
    for (struct process *process = &table[1]; process < &table[PROCESSES]; process++)
        if (process->state == SLEEPING && process->channel == channel)
            process->state = READY;
    irq_restore(flags);
}

/* Wake those who wait for the clock (timer.c), if their time has come. */
void wake_sleepers(uint32_t now)
{
    irq_must_be_off("wake_sleepers");
    for (struct process *process = &table[1]; process < &table[PROCESSES]; process++)
        if (process->state == SLEEPING && process->channel == &process->wake_at && process->wake_at == now)
            process->state = READY;
}

int process_fork(const struct frame *frame)
{
    struct process *child = process_new();
    if (!child)
        return E_FULL;
    child->directory = space_fork(current->directory);
    if (!child->directory) {
        frame_release((uint32_t)child->kernel_stack - KERNEL_BASE);
        return E_FULL;
    }
    child->heap_start = current->heap_start;
    child->heap_end = current->heap_end;
    memcpy(child->name, current->name, NAME_SIZE);
    files_inherit(child);
    *frame_of(child) = *frame;
    frame_of(child)->eax = 0;
    int pid = child->pid;
    uint32_t flags = irq_save();
    make_ready(child);
    irq_restore(flags);
    return pid;
}

/* Children of a process that ends belong to the first process from then on. */
static void orphan_children(void)
{
    for (struct process *process = &table[1]; process < &table[PROCESSES]; process++)
        if (process->state != UNUSED && process->parent == current) {
            process->parent = &table[1];
            wake_up(&table[1]);
        }
}

void process_exit(int status)
{
    uint32_t *directory = current->directory;
    if (current == &table[1])
        power_off((uint8_t)status);
    files_close_all();
    load_directory(kernel_space);
    current->directory = 0;
    space_free(directory);
    orphan_children();
    irq_disable();
    current->status = status;
    current->state = ZOMBIE;
    wake_up(current->parent);
    schedule();
    panic("a zombie runs");
}

/* A child that has ended, or null; `any`: whether there are children at all. */
static struct process *find_zombie(bool *any)
{
    *any = false;
    for (struct process *process = &table[1]; process < &table[PROCESSES]; process++) {
        if (process->state == UNUSED || process->parent != current)
            continue;
        *any = true;
        if (process->state == ZOMBIE)
            return process;
    }
    return 0;
}

int process_wait(int *user_status)
{
    bool any;
    struct process *child;
    uint32_t flags = irq_save();
    while (!(child = find_zombie(&any)) && any && !current->killed)
        sleep_on(current);
    irq_restore(flags);
    if (!child)
        return any ? E_KILLED : E_MISSING;
    int pid = child->pid, status = child->status;
    frame_release((uint32_t)child->kernel_stack - KERNEL_BASE);
    child->state = UNUSED;
    if (user_status && copy_out(user_status, &status, sizeof status) < 0)
        return E_FAULT;
    return pid;
}

int process_kill(int pid)
{
    for (struct process *process = &table[1]; process < &table[PROCESSES]; process++) {
        if (process->state == UNUSED || process->state == ZOMBIE || process->pid != pid)
            continue;
        uint32_t flags = irq_save();
        process->killed = true;
        if (process->state == SLEEPING)
            process->state = READY; /* what it waits for will not come: it sees `killed`, and gives up */
        irq_restore(flags);
        return 0;
    }
    return E_MISSING;
}

int process_info(unsigned n, struct process_info *info)
{
    if (n + 1 >= PROCESSES)
        return E_MISSING;
    const struct process *process = &table[n + 1];
    memset(info, 0, sizeof *info);
    if (process->state == UNUSED)
        return 0;
    memcpy(info->name, process->name, NAME_SIZE);
    info->pid = process->pid;
    info->parent = process->parent->pid;
    return 0;
}
