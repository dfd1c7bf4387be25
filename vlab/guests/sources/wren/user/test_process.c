/* Processes: fork, exec, exit, wait, kill, sleep, yield, and preemption. */
#include "selftest.h"

static bool fork_returns_twice(void)
{
    int ends[2], told = 0, status = 0;
    if (pipe(ends) < 0)
        return false;
    int pid = fork();
    if (pid == 0) {
        int own = getpid();
        write(ends[1], &own, sizeof own);
        exit(0);
    }
    bool right = read(ends[0], &told, sizeof told) == sizeof told && told == pid && pid != getpid();
    close(ends[0]);
    close(ends[1]);
    return wait(&status) == pid && right;
}

static int exit_77(void) { return 77; }

static bool wait_gives_the_status(void)
{
    return child_status(exit_77) == 77;
}

static bool wait_without_children_fails(void)
{
    return wait(0) == E_MISSING;
}

static bool wait_finds_who_ended_first(void)
{
    int slow = fork();
    if (slow == 0) {
        sleep(12);
        exit(1);
    }
    int quick = fork();
    if (quick == 0)
        exit(2);
    return wait(0) == quick && wait(0) == slow;
}

static bool many_children_run_at_once(void)
{
    int started = 0, seen = 0, status;
    for (int i = 0; i < 15; i++) {
        int pid = fork();
        if (pid == 0) {
            yield();
            exit(i);
        }
        started += pid > 0;
    }
    while (wait(&status) > 0)
        seen |= 1 << status;
    return started == 15 && seen == 0x7FFF;
}

static bool fork_fails_when_the_table_is_full(void)
{
    int ends[2], started = 0, pid;
    char byte;
    pipe(ends);
    while (started < 50 && (pid = fork()) >= 0) {
        if (pid == 0) {
            close(ends[1]);
            read(ends[0], &byte, 1); /* until the parent closes its end */
            exit(0);
        }
        started++;
    }
    close(ends[0]);
    close(ends[1]);
    for (int i = 0; i < started; i++)
        wait(0);
    return pid == E_FULL && started >= 15 && child_status(exit_77) == 77;
}

static int leave_an_orphan(void)
{
    int pid = fork();
    if (pid == 0) {
        sleep(12);
        exit(0);
    }
    return 0;
}

static bool orphans_go_to_the_first_process(void)
{
    struct process_info info;
    bool found = false;
    int before = child_status(leave_an_orphan);
    for (int n = 0; process_info(n, &info) == 0; n++)
        found |= info.name[0] && info.pid != 1 && info.parent == 1 && info.pid != getpid();
    if (getpid() == 1)
        wait(0); /* for the orphan, which is ours now */
    else
        sleep(20);
    return before == 0 && found;
}

static bool sleep_takes_its_time(void)
{
    int before = ticks();
    return sleep(3) == 0 && ticks() - before >= 3;
}

static bool sleepers_wake_in_order(void)
{
    int ends[2], order = 0;
    char who;
    pipe(ends);
    for (int i = 1; i <= 3; i++)
        if (fork() == 0) {
            sleep((unsigned)(32 - 8 * i));
            who = (char)i;
            write(ends[1], &who, 1);
            exit(0);
        }
    close(ends[1]);
    while (read(ends[0], &who, 1) == 1)
        order = order * 10 + who;
    close(ends[0]);
    while (wait(0) > 0)
        ;
    return order == 321;
}

static void spin(void)
{
    for (;;)
        ;
}

static bool a_spinning_process_is_preempted_and_killed(void)
{
    int status = 0, pid = fork();
    if (pid == 0)
        spin();
    sleep(2); /* without preemption we would never wake */
    return kill(pid) == 0 && wait(&status) == pid && status == STATUS_KILLED;
}

static bool a_sleeper_is_killed(void)
{
    int status = 0, pid = fork();
    if (pid == 0) {
        sleep(1000000);
        exit(0);
    }
    sleep(1);
    return kill(pid) == 0 && wait(&status) == pid && status == STATUS_KILLED;
}

static bool a_reader_of_a_pipe_is_killed(void)
{
    int ends[2], status = 0;
    char byte;
    pipe(ends);
    int pid = fork();
    if (pid == 0) {
        read(ends[0], &byte, 1);
        exit(0);
    }
    sleep(1);
    bool right = kill(pid) == 0 && wait(&status) == pid && status == STATUS_KILLED;
    close(ends[0]);
    close(ends[1]);
    return right;
}

static int kill_myself(void)
{
    kill(getpid());
    return 0;
}

static bool a_process_may_kill_itself(void)
{
    return child_status(kill_myself) == STATUS_KILLED;
}

static bool kill_needs_a_process(void)
{
    return kill(12345) == E_MISSING && kill(0) == E_MISSING && kill(-1) == E_MISSING;
}

/* Registers with a pattern, while the timer takes the processor away again and again. */
static int keep_registers(unsigned pattern)
{
    int start = ticks();
    do {
        unsigned a = pattern, b = ~pattern, c = pattern * 3, d = pattern ^ 0x5A5A5A5A, count = 20000;
        __asm__ volatile("1: dec %4\n\t"
                         "jnz 1b" : "+b"(a), "+S"(b), "+D"(c), "+d"(d), "+c"(count));
        if (a != pattern || b != ~pattern || c != pattern * 3 || d != (pattern ^ 0x5A5A5A5A) || count)
            return 1;
    } while (ticks() - start < 4);
    return 0;
}

static bool registers_survive_preemption(void)
{
    int bad = 0, status;
    for (unsigned i = 1; i <= 3; i++)
        if (fork() == 0)
            exit(keep_registers(0x01010101 * i));
    while (wait(&status) > 0)
        bad |= status;
    return !bad;
}

static bool registers_survive_system_calls(void)
{
    unsigned a = SYS_GETPID, b = 2, c = 3, d = 4, s = 5, t = 6;
    __asm__ volatile("int 0x80" : "+a"(a), "+b"(b), "+c"(c), "+d"(d), "+S"(s), "+D"(t) : : "memory");
    return (int)a == getpid() && b == 2 && c == 3 && d == 4 && s == 5 && t == 6;
}

static bool the_direction_flag_is_ours(void)
{
    unsigned a = SYS_WRITE, flags;
    char text[] = "direction";
    int ends[2];
    pipe(ends);
    __asm__ volatile("std\n\t"
                     "int 0x80\n\t"
                     "pushfd\n\t"
                     "cld\n\t"
                     "pop %1" : "+a"(a), "=S"(flags) : "b"(ends[1]), "c"(text), "d"(9) : "memory", "cc");
    memset(text, 0, sizeof text);
    bool right = a == 9 && flags & 1 << 10 && read(ends[0], text, 9) == 9 && equal(text, "direction");
    close(ends[0]);
    close(ends[1]);
    return right;
}

static bool an_unknown_system_call_fails(void)
{
    return syscall(0) == E_INVALID && syscall(1000) == E_INVALID && syscall(-1) == E_INVALID;
}

static int exec_with_arguments(void)
{
    char *arguments[] = { "selftest", "-arguments", "one", "", "three", 0 };
    return exec("selftest", arguments);
}

static bool exec_hands_over_arguments(void)
{
    return child_status(exec_with_arguments) == 7;
}

static bool exec_fails_and_returns(void)
{
    char *none[] = { "x", 0 }, *many[ARGUMENTS + 2], text[2000];
    for (int i = 0; i <= ARGUMENTS; i++)
        many[i] = "x";
    many[ARGUMENTS + 1] = 0;
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    char *large[] = { text, 0 };
    return exec("nothing", none) == E_MISSING && exec("welcome", none) == E_INVALID
        && exec("echo", many) == E_INVALID && exec("echo", large) == E_INVALID
        && exec("echo", (char **)0xC0100000) == E_FAULT && exec((char *)1, none) == E_FAULT
        && exec("a name that is too long", none) == E_INVALID;
}

static int exec_changes_nothing_else(void)
{
    char *arguments[] = { "sh", "-c", "exit 5", 0 };
    return exec("sh", arguments);
}

static bool exec_keeps_the_pid(void)
{
    int status = 0, pid = fork();
    if (pid == 0)
        exit(exec_changes_nothing_else());
    return wait(&status) == pid && status == 5;
}

const struct test process_tests[] = {
    { "process.fork_returns_twice", fork_returns_twice },
    { "process.wait_gives_the_status", wait_gives_the_status },
    { "process.wait_without_children_fails", wait_without_children_fails },
    { "process.wait_finds_who_ended_first", wait_finds_who_ended_first },
    { "process.many_children_run_at_once", many_children_run_at_once },
    { "process.fork_fails_when_the_table_is_full", fork_fails_when_the_table_is_full },
    { "process.orphans_go_to_the_first_process", orphans_go_to_the_first_process },
    { "process.a_process_may_kill_itself", a_process_may_kill_itself },
    { "process.a_sleeper_is_killed", a_sleeper_is_killed },
    { "process.a_reader_of_a_pipe_is_killed", a_reader_of_a_pipe_is_killed },
    { "process.kill_needs_a_process", kill_needs_a_process },
    { "process.exec_hands_over_arguments", exec_hands_over_arguments },
    { "process.exec_fails_and_returns", exec_fails_and_returns },
    { "process.exec_keeps_the_pid", exec_keeps_the_pid },
    { "process.an_unknown_system_call_fails", an_unknown_system_call_fails },
    { "process.registers_survive_system_calls", registers_survive_system_calls },
    { "process.the_direction_flag_is_ours", the_direction_flag_is_ours },
    { "time.sleep_takes_its_time", sleep_takes_its_time },
    { "time.sleepers_wake_in_order", sleepers_wake_in_order },
    { "time.a_spinning_process_is_preempted", a_spinning_process_is_preempted_and_killed },
    { "time.registers_survive_preemption", registers_survive_preemption },
    { 0, 0 },
};
