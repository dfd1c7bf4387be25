/* The system calls: what the kernel and the programs agree on.
 *
 * INT 80h, number in EAX, arguments in EBX, ECX and EDX. The result is in EAX; a negative one is an error.
 * All other registers are preserved. */
#pragma once

#define SYS_EXIT 1     /* (status): ends the process; the first process ends the machine with that status */
#define SYS_FORK 2     /* (): 0 in the child, the child's pid in the parent */
#define SYS_EXEC 3     /* (name, argv): returns only if it fails */
#define SYS_WAIT 4     /* (int *status): the pid of a child that has ended */
#define SYS_GETPID 5   /* () */
#define SYS_KILL 6     /* (pid) */
#define SYS_SLEEP 7    /* (ticks) */
#define SYS_YIELD 8    /* () */
#define SYS_SBRK 9     /* (bytes): the end of the heap as it was; the memory comes when it is touched */
#define SYS_OPEN 10    /* (name, flags): a file descriptor */
#define SYS_CLOSE 11   /* (fd) */
#define SYS_READ 12    /* (fd, buffer, size): bytes read, 0 at the end */
#define SYS_WRITE 13   /* (fd, buffer, size): bytes written */
#define SYS_DUP 14     /* (fd): the lowest free descriptor, for the same open file */
#define SYS_PIPE 15    /* (int fds[2]): reading end, writing end */
#define SYS_UNLINK 16  /* (name) */
#define SYS_FILE 17    /* (n, struct file_info *): the nth file of the directory */
#define SYS_PROCESS 18 /* (n, struct process_info *): the nth slot of the process table */
#define SYS_TICKS 19   /* (): since the start */
#define SYS_FRAMES 20  /* (): page frames that are free */

#define SYS_BENCH 21   /* (BENCH_..., count, address): do something privileged so often (bench.c) */
#define SYS_CHECK 22   /* (n, struct check_info *): the nth thing that the kernel checks of itself (check.c) */

#define BENCH_IN 1      /* an access to a device */
#define BENCH_CR 2      /* a load of CR3 */
#define BENCH_CALL 3    /* a call and its return, in the kernel */
#define BENCH_DIVIDE 4  /* a division by zero, in the kernel */
#define BENCH_ENTRY 5   /* a change of the page table's entry for the address, which must be mapped */

#define OPEN_READ 0
#define OPEN_WRITE 1 /* creates the file, or empties it; not while it is open */

#define E_INVALID (-1)  /* an argument makes no sense */
#define E_FAULT (-2)    /* an address that the program may not use so */
#define E_MISSING (-3)  /* no such file, process, child or descriptor */
#define E_FULL (-4)     /* a table or the memory is full */
#define E_READ_ONLY (-5)
#define E_PIPE (-6)     /* nobody can read any more */
#define E_KILLED (-7)   /* never seen by a program: it is about to end */

/* What wait says of a process that did not call exit: */
#define STATUS_FAULT 128  /* plus the exception's vector */
#define STATUS_KILLED 137 /* (vector 9 does not exist any more) */

#define NAME_SIZE 16
#define CHECK_NAME_SIZE 32
#define ARGUMENTS 8

struct file_info {
    char name[NAME_SIZE];
    unsigned size;
    int writable;
};

struct process_info {
    char name[NAME_SIZE]; /* "" for a free slot */
    int pid, parent;
};

struct check_info {
    char name[CHECK_NAME_SIZE];
    int right; /* whether it holds, now */
};
