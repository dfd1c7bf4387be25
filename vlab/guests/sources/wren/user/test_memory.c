/* Memory: copy-on-write, demand paging, the heap, the stack. */
#include "selftest.h"

enum { PAGE = 4096, PAGES = 32 };

static int initialised = 1, zero;
static char pages[PAGES][PAGE] __attribute__((aligned(PAGE)));

/* A child that says when it is ready, and ends when it is told to. */
struct partner {
    int pid, to_child[2], to_parent[2];
};

static bool start_partner(struct partner *partner, void (*body)(void))
{
    char byte;
    pipe(partner->to_child);
    pipe(partner->to_parent);
    partner->pid = fork();
    if (partner->pid == 0) {
        body();
        write(partner->to_parent[1], "r", 1);
        read(partner->to_child[0], &byte, 1);
        exit(0);
    }
    return partner->pid > 0 && read(partner->to_parent[0], &byte, 1) == 1;
}

static void end_partner(struct partner *partner)
{
    write(partner->to_child[1], "e", 1);
    wait(0);
    for (int end = 0; end < 2; end++) {
        close(partner->to_child[end]);
        close(partner->to_parent[end]);
    }
}

static void do_nothing(void) {}

static bool a_child_has_its_own_memory(void)
{
    int on_stack = 5, status = 0, pid;
    initialised = 1;
    zero = 0;
    pid = fork();
    if (pid == 0) {
        initialised = 2;
        zero = 3;
        *(volatile int *)&on_stack = 6;
        exit(initialised + zero + on_stack);
    }
    return wait(&status) == pid && status == 11 && initialised == 1 && zero == 0
        && *(volatile int *)&on_stack == 5;
}

static int see_old_value(void)
{
    sleep(2); /* the parent writes meanwhile */
    return pages[3][0];
}

static bool the_parent_may_write_first(void)
{
    int status = 0;
    pages[3][0] = 40;
    int pid = fork();
    if (pid == 0)
        exit(see_old_value());
    pages[3][0] = 50;
    return wait(&status) == pid && status == 40 && pages[3][0] == 50;
}

static bool fork_shares_frames(void)
{
    struct partner partner;
    memset(pages, 1, sizeof pages);
    int before = frames();
    bool right = start_partner(&partner, do_nothing) && before - frames() < PAGES / 2;
    end_partner(&partner);
    return right;
}

static bool a_write_copies_one_page(void)
{
    struct partner partner;
    memset(pages, 1, sizeof pages);
    bool right = start_partner(&partner, do_nothing);
    int before = frames();
    for (int i = 0; i < 10; i++)
        pages[i][100] = 2;
    right &= before - frames() == 10;
    pages[0][200] = 3;
    right &= before - frames() == 10;
    end_partner(&partner);
    return right;
}

static bool the_last_owner_keeps_the_frame(void)
{
    struct partner partner;
    memset(pages, 1, sizeof pages);
    bool right = start_partner(&partner, do_nothing);
    end_partner(&partner);
    int before = frames();
    memset(pages, 4, sizeof pages); /* read-only still, but shared with nobody */
    return right && frames() == before;
}

static bool the_kernel_writes_to_copies_too(void)
{
    int ends[2], status = 0;
    memcpy(pages[1], "parent", 7);
    pipe(ends);
    int pid = fork();
    if (pid == 0) {
        write(ends[1], "child!", 7);
        read(ends[0], pages[1], 7); /* the kernel stores into a shared page: CR0.WP */
        exit(equal(pages[1], "child!"));
    }
    bool right = wait(&status) == pid && status == 1 && equal(pages[1], "parent");
    close(ends[0]);
    close(ends[1]);
    return right;
}

static int grandchildren(void)
{
    pages[0][0]++;
    int pid = pages[0][0] < 5 ? fork() : -1, status = 0;
    if (pid == 0)
        exit(grandchildren());
    if (pid > 0)
        wait(&status);
    return pages[0][0] + status;
}

static bool generations_have_their_own_copies(void)
{
    pages[0][0] = 0;
    return child_status(grandchildren) == 1 + 2 + 3 + 4 + 5 && pages[0][0] == 0;
}

static int grow_heap(void)
{
    char *start = sbrk(8 * PAGE);
    int sum = 0;
    for (int i = 0; i < 8 * PAGE; i++)
        sum |= start[i];
    start[0] = start[8 * PAGE - 1] = 1;
    return sum == 0 && sbrk(0) == start + 8 * PAGE;
}

static bool the_heap_grows_with_zeros(void)
{
    return child_status(grow_heap) == 1;
}

static int touch_late(void)
{
    int before = frames();
    char *start = sbrk(100 * PAGE);
    bool none = frames() == before;
    start[50 * PAGE] = 1;
    return none && before - frames() == 1;
}

static bool heap_pages_come_when_touched(void)
{
    return child_status(touch_late) == 1;
}

static int shrink(void)
{
    char *start = sbrk(4 * PAGE);
    memset(start, 7, 4 * PAGE);
    int before = frames();
    sbrk(-3 * PAGE);
    bool given_back = frames() == before + 3;
    sbrk(3 * PAGE);
    return given_back && start[PAGE - 1] == 7 && start[PAGE] == 0;
}

static bool the_heap_shrinks(void)
{
    return child_status(shrink) == 1;
}

static int touch_beyond_the_heap(void)
{
    return sbrk(0)[PAGE];
}

static bool beyond_the_heap_is_nothing(void)
{
    return child_status(touch_beyond_the_heap) == STATUS_FAULT + 14;
}

static bool sbrk_refuses_nonsense(void)
{
    return (int)sbrk(0x7FFFFFFF) == E_FULL && (int)sbrk(-PAGE) == E_FULL && (int)sbrk(-0x7FFFFFFF) == E_FULL;
}

static int use_malloc(void)
{
    char *block[20];
    for (int i = 0; i < 20; i++) {
        block[i] = malloc((unsigned)(100 + 300 * i));
        memset(block[i], i, (size_t)(100 + 300 * i));
    }
    for (int i = 0; i < 20; i += 2)
        free(block[i]);
    char *end = sbrk(0);
    for (int i = 0; i < 20; i += 2)
        block[i] = memset(malloc((unsigned)(100 + 300 * i)), i, (size_t)(100 + 300 * i));
    for (int i = 0; i < 20; i++)
        for (int j = 0; j < 100 + 300 * i; j++)
            if (block[i][j] != i)
                return 2;
    return sbrk(0) == end;
}

static bool malloc_reuses_what_was_freed(void)
{
    return child_status(use_malloc) == 1;
}

static int recurse(int depth)
{
    volatile char room[1000];
    room[0] = (char)depth;
    return depth ? recurse(depth - 1) + (room[0] == (char)depth) : 0;
}

static int grow_stack(void) { return recurse(40); }
static int overflow_stack(void) { return recurse(100000); }

static bool the_stack_grows(void)
{
    return child_status(grow_stack) == 40;
}

static bool the_stack_has_an_end(void)
{
    return child_status(overflow_stack) == STATUS_FAULT + 14;
}

static int take_everything(void)
{
    char *start = sbrk(0x70000000);
    for (int i = 0; i < 0x70000; i++)
        start[i * PAGE] = 1;
    return 0;
}

static bool who_takes_all_memory_is_ended(void)
{
    int before = frames();
    return child_status(take_everything) == STATUS_FAULT + 14 && frames() == before;
}

const struct test memory_tests[] = {
    { "memory.a_child_has_its_own_memory", a_child_has_its_own_memory },
    { "memory.the_parent_may_write_first", the_parent_may_write_first },
    { "memory.fork_shares_frames", fork_shares_frames },
    { "memory.a_write_copies_one_page", a_write_copies_one_page },
    { "memory.the_last_owner_keeps_the_frame", the_last_owner_keeps_the_frame },
    { "memory.the_kernel_writes_to_copies_too", the_kernel_writes_to_copies_too },
    { "memory.generations_have_their_own_copies", generations_have_their_own_copies },
    { "memory.the_heap_grows_with_zeros", the_heap_grows_with_zeros },
    { "memory.heap_pages_come_when_touched", heap_pages_come_when_touched },
    { "memory.the_heap_shrinks", the_heap_shrinks },
    { "memory.beyond_the_heap_is_nothing", beyond_the_heap_is_nothing },
    { "memory.sbrk_refuses_nonsense", sbrk_refuses_nonsense },
    { "memory.malloc_reuses_what_was_freed", malloc_reuses_what_was_freed },
    { "memory.the_stack_grows", the_stack_grows },
    { "memory.the_stack_has_an_end", the_stack_has_an_end },
    { "memory.who_takes_all_memory_is_ended", who_takes_all_memory_is_ended },
    { 0, 0 },
};
