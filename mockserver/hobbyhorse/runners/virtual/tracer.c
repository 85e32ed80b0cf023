/* Run a program, and every process that it starts, in virtual time.
 *
 *     tracer CONTROL_FD NOW BOOT FILE ARGV0 [ARGUMENT...]
 *
 * NOW and BOOT are nanoseconds since 1970: the virtual time, and the moment at which the monotonic clock showed zero.
 *
 * The program is traced (PTRACE_SEIZE), and a seccomp filter stops it only at system calls that are about time. Clock
 * reads do not even stop: at each exec, the vDSO's functions are overwritten with code that reads two words, which this
 * tracer writes. A finite wait becomes an infinite one with a deadline in this tracer. When every thread sleeps, the
 * controller is told the earliest deadline. The controller moves time, and the tracer ends the one wait that is due.
 *
 * Messages to the controller, one a packet: `started PID`, `failed ERRNO` (exec), `idle SERIAL NEXT LIVE` (everything
 * sleeps; NEXT is the earliest deadline or -1; LIVE processes), `busy CPU` (nanoseconds that the busiest thread has
 * computed since the last sleep), `unsupported NAME`, `denied NAME`, `outside`, `end REASON` (the
 * tracer gives up), `exit STATUS` (of the program).
 * Messages from it: `check` (report when idle), `set NOW STEP` (move time), `to NOW STEP` (move time, end what is due,
 * then report), `signal N`. When the controller closes the socket, this tracer exits, and the kernel kills the tracees.
 *
 * Invariants
 *   1. Idle means that there was one instant at which every thread slept. The state of each thread is read with its
 *      number of time slices, twice. If a thread sleeps at both times and has not run between them, it has slept all
 *      the time; the intervals of all threads overlap. A thread that has been woken is runnable, even before it runs.
 *   2. SERIAL changes whenever a thread has run. If it is the same before and after the server has settled, the client
 *      has done nothing meanwhile, and time may move.
 *   3. Only one wait ends at a time, in the order of deadlines and then of their beginnings, so that the order of
 *      threads depends on nothing real.
 *   4. A program sees its registers and its memory as the kernel would leave them: arguments are restored at the end of
 *      a wait, and memory is written with process_vm_writev, which respects read-only pages.
 *   5. A wait ends 1 us after its deadline, so that a clock read afterwards is never before it.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef int64_t ns_t;
#define SECOND ((ns_t)1000000000)
#define NEVER INT64_MAX
#define LONGEST (INT64_MAX / 4) /* longer waits are infinite: sums of three such numbers do not overflow */
#define MARGIN ((ns_t)1000)     /* of invariant 5 */
#define MOST_TASKS 4096         /* threads; a program with more is a fork bomb */
#define MOST_EVENTS 256         /* handled in a row */
#define BUSY_REPORT_NS (10 * 1000000LL) /* real time between two reports of a thread that computes */
#define COMPUTING_NS 100000000u         /* a thread that computes for less is not reported: most do, at their start */
#define KERNEL_RESTART 514              /* ERESTARTNOHAND: restart unless a handler runs, then EINTR */

#if defined(__x86_64__)
#include <sys/user.h>
#define ARCH AUDIT_ARCH_X86_64
#define MACHINE EM_X86_64
typedef struct user_regs_struct regs_t;
#define NR(r) ((r)->orig_rax)
#define RESULT(r) ((r)->rax)
#define SP(r) ((r)->rsp)
#define IP(r) ((r)->rip)
static unsigned long long *arg(regs_t *r, int i) {
    unsigned long long *all[] = {&r->rdi, &r->rsi, &r->rdx, &r->r10, &r->r8, &r->r9};
    return all[i];
}
#elif defined(__aarch64__)
#include <asm/ptrace.h>
#define ARCH AUDIT_ARCH_AARCH64
#define MACHINE EM_AARCH64
typedef struct user_pt_regs regs_t;
#define NR(r) ((r)->regs[8])
#define RESULT(r) ((r)->regs[0])
#define SP(r) ((r)->sp)
#define IP(r) ((r)->pc)
static __typeof__(&((regs_t *)0)->regs[0]) arg(regs_t *r, int i) { return &r->regs[i]; }
#else
#error "virtual time needs x86-64 or arm64"
#endif

/* The system calls that arm64 does not have get numbers that no call has. */
#ifndef SYS_poll
enum { SYS_poll = -100, SYS_select, SYS_epoll_wait, SYS_alarm, SYS_time };
#endif
#ifndef SYS_futex_wait
#define SYS_futex_wait 455
#endif

enum kind { MS, TIMESPEC, PPOLL, SELECT, PSELECT, SLEEP, CLOCK_SLEEP, FUTEX, MQ, FUTEXV, FUTEX2, CREATE, CREATE_FD };

/* A call with a time-out in argument `at`, and its result when the time has passed. */
struct wait { int nr; enum kind kind; int at; int result; };

static const struct wait WAITS[] = {
    {SYS_poll, MS, 2, 0}, {SYS_epoll_wait, MS, 3, 0}, {SYS_epoll_pwait, MS, 3, 0},
    {SYS_ppoll, PPOLL, 2, 0}, {SYS_select, SELECT, 4, 0}, {SYS_pselect6, PSELECT, 4, 0},
    {SYS_epoll_pwait2, TIMESPEC, 3, 0}, {SYS_rt_sigtimedwait, TIMESPEC, 2, -EAGAIN},
    {SYS_semtimedop, TIMESPEC, 3, -EAGAIN}, {SYS_io_getevents, TIMESPEC, 4, 0}, {SYS_io_pgetevents, TIMESPEC, 4, 0},
    {SYS_nanosleep, SLEEP, 0, 0}, {SYS_clock_nanosleep, CLOCK_SLEEP, 2, 0}, {SYS_futex, FUTEX, 3, -ETIMEDOUT},
    {SYS_mq_timedsend, MQ, 4, -ETIMEDOUT}, {SYS_mq_timedreceive, MQ, 4, -ETIMEDOUT},
    {SYS_futex_waitv, FUTEXV, 3, -ETIMEDOUT}, {SYS_futex_wait, FUTEX2, 4, -ETIMEDOUT},
};
static const struct wait TIMER_CREATE = {SYS_timer_create, CREATE, 2, 0};
static const struct wait TIMERFD_CREATE = {SYS_timerfd_create, CREATE_FD, 0, 0};
#define COUNT(list) (sizeof(list) / sizeof *(list))

/* Calls that the tracer answers, or notes, at each call. */
static const int ANSWERED[] = {
    SYS_clock_gettime, SYS_gettimeofday, SYS_time, SYS_alarm, SYS_timer_create, SYS_timer_settime, SYS_timer_gettime,
    SYS_timer_delete, SYS_timerfd_create, SYS_timerfd_settime, SYS_timerfd_gettime, SYS_clock_settime,
    SYS_settimeofday, SYS_adjtimex, SYS_clock_adjtime, SYS_io_uring_setup, SYS_ptrace, SYS_connect,
};

struct process {
    pid_t pid;
    int mem;             /* /proc/PID/mem, to write the time */
    unsigned long clock; /* address of the two words of time, or 0 */
    ns_t alarm, interval;
    int tasks;
    struct process *next;
};

struct task {
    pid_t tid;
    struct process *process;
    const struct wait *wait; /* the call that has been made infinite, until its exit stop */
    ns_t deadline;           /* of the wait, or of a call on a socket with a time-out */
    bool wall;               /* the deadline is a time of the wall clock */
    bool on_socket;          /* `deadline` belongs to a call that was found asleep */
    bool ending;             /* interrupted, because its deadline has passed */
    bool listening;          /* stopped by a signal, as a shell stops its jobs */
    long order;
    regs_t saved;
    bool again;              /* the kernel may restart the wait `saved`, whose deadline was `old` */
    ns_t old;
    struct sigevent event;   /* of timer_create */
    bool slept;              /* slept when it was last looked at */
    uint64_t slices, cpu, cpu_start;
    int stat, schedstat;
    struct task *next;
};

struct timer { /* a POSIX timer, or a timerfd of a process */
    struct process *process;
    bool is_fd;
    int id, clock;
    ns_t due, interval;
    struct sigevent event;
    struct timer *next;
};

struct timeouts { ino_t inode; ns_t receive, send; struct timeouts *next; };

static struct task *tasks;
static struct process *processes;
static struct timer *timers;
static struct timeouts *sockets;
static int control, task_count;
static pid_t program;
static ns_t now, boot, step;
static long order, serial;
static bool wants_report = true, changed = true, hidden, started;
static ino_t outputs[2];
static ns_t last_busy_report;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
    char text[160];
    va_list values;
    va_start(values, format);
    int size = vsnprintf(text, sizeof text, format, values);
    va_end(values);
    if (send(control, text, (size_t)size, MSG_NOSIGNAL) < 0 && errno != EINTR) _exit(1);
}

static ns_t real_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static ns_t min_ns(ns_t a, ns_t b) { return a < b ? a : b; }
static ns_t max_ns(ns_t a, ns_t b) { return a > b ? a : b; }

/* ---- memory and registers of tracees */

static bool get(pid_t tid, unsigned long from, void *to, size_t size) {
    struct iovec local = {to, size}, remote = {(void *)from, size};
    return process_vm_readv(tid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

static bool put(pid_t tid, unsigned long to, const void *from, size_t size) {
    struct iovec local = {(void *)from, size}, remote = {(void *)to, size};
    return to && process_vm_writev(tid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

static bool read_regs(pid_t tid, regs_t *regs) {
    struct iovec all = {regs, sizeof *regs};
    return ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &all) == 0;
}

static void write_regs(pid_t tid, regs_t *regs) {
    struct iovec all = {regs, sizeof *regs};
    ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &all);
}

/* Replace the call that a thread is about to make; -1 for none. */
static void set_call(pid_t tid, regs_t *regs, int nr) {
#if defined(__aarch64__)
    struct iovec number = {&nr, sizeof nr};
    ptrace(PTRACE_SETREGSET, tid, NT_ARM_SYSTEM_CALL, &number);
    (void)regs;
#else
    (void)tid;
    NR(regs) = (unsigned long long)(long long)nr;
#endif
}

static void answer(struct task *t, regs_t *regs, long result) {
    set_call(t->tid, regs, -1);
    RESULT(regs) = (unsigned long long)result;
    write_regs(t->tid, regs);
}

static ns_t from_parts(int64_t seconds, int64_t nanoseconds) {
    if (seconds > LONGEST / SECOND) return LONGEST;
    return seconds * SECOND + nanoseconds;
}

/* Read a timespec or a timeval (`unit` is 1 or 1000 ns); false if the kernel would refuse it. */
static bool read_time(pid_t tid, unsigned long from, int unit, ns_t *found) {
    int64_t parts[2];
    if (!get(tid, from, parts, sizeof parts) || parts[0] < 0 || parts[1] < 0 || parts[1] >= SECOND / unit) return false;
    *found = from_parts(parts[0], parts[1] * unit);
    return true;
}

static void write_time(pid_t tid, unsigned long to, ns_t value, int unit) {
    int64_t parts[2] = {value / SECOND, value % SECOND / unit};
    put(tid, to, parts, sizeof parts);
}

/* ---- clocks */

static bool is_wall(int clock) { return clock == CLOCK_REALTIME || clock == 5 || clock == 8 || clock == CLOCK_TAI; }
static bool is_monotonic(int clock) {
    return clock == CLOCK_MONOTONIC || clock == 4 || clock == 6 || clock == 7 || clock == 9;
}

/* Return the time of a clock on our time line, and the reverse. */
static ns_t from_clock(int clock, ns_t value) { return is_wall(clock) ? value - step : value + boot; }
static ns_t to_clock(int clock) { return is_wall(clock) ? now + step : now - boot; }

#if defined(__x86_64__)
/* The code that replaces the vDSO's, and its two words: the monotonic time and the wall time. Each word is read twice,
 * because the tracer may write it while a thread runs. */
__asm__(".pushsection .rodata\n"
        ".globl vdso_code, vdso_words, vdso_gettimeofday, vdso_time, vdso_end\n"
        ".balign 8\n"
        "vdso_code:\n"
        "  cmp $11, %edi\n  ja 3f\n"
        "  mov $1, %eax\n  mov %edi, %ecx\n  shl %cl, %eax\n"
        "  test $0x921, %eax\n  jnz 2f\n" /* 0, 5, 8, 11 */
        "  test $0x2d2, %eax\n  jz 3f\n"  /* 1, 4, 6, 7, 9 */
        "1: mov vdso_words(%rip), %rax\n  cmp vdso_words(%rip), %rax\n  jne 1b\n  jmp 4f\n"
        "2: mov vdso_words+8(%rip), %rax\n  cmp vdso_words+8(%rip), %rax\n  jne 2b\n  jmp 4f\n"
        "3: mov $228, %eax\n  syscall\n  ret\n"
        "4: xor %edx, %edx\n  mov $1000000000, %ecx\n  div %rcx\n"
        "  mov %rax, (%rsi)\n  mov %rdx, 8(%rsi)\n  xor %eax, %eax\n  ret\n"
        "vdso_gettimeofday:\n"
        "  test %rsi, %rsi\n  jz 5f\n  movq $0, (%rsi)\n"
        "5: test %rdi, %rdi\n  jz 7f\n"
        "6: mov vdso_words+8(%rip), %rax\n  cmp vdso_words+8(%rip), %rax\n  jne 6b\n"
        "  xor %edx, %edx\n  mov $1000000000, %ecx\n  div %rcx\n  mov %rax, (%rdi)\n"
        "  mov %edx, %eax\n  xor %edx, %edx\n  mov $1000, %ecx\n  div %ecx\n  mov %rax, 8(%rdi)\n"
        "7: xor %eax, %eax\n  ret\n"
        "vdso_time:\n"
        "8: mov vdso_words+8(%rip), %rax\n  cmp vdso_words+8(%rip), %rax\n  jne 8b\n"
        "  xor %edx, %edx\n  mov $1000000000, %ecx\n  div %rcx\n"
        "  test %rdi, %rdi\n  jz 9f\n  mov %rax, (%rdi)\n"
        "9: ret\n"
        ".balign 8\n"
        "vdso_words: .quad 0, 0\n"
        "vdso_end:\n"
        ".popsection\n");
extern const char vdso_code[], vdso_words[], vdso_gettimeofday[], vdso_time[], vdso_end[];
#endif

/* Offsets in the vDSO, which is the same in every 64-bit process of this kernel; 0 if it cannot be overwritten. */
static unsigned long at_clock_gettime, at_gettimeofday, at_time;

static void find_vdso(void) {
#if defined(__x86_64__)
    const char *base = (const char *)getauxval(AT_SYSINFO_EHDR);
    if (!base) return;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)base;
    const Elf64_Phdr *parts = (const Elf64_Phdr *)(base + header->e_phoff);
    const Elf64_Dyn *dynamic = NULL;
    for (int i = 0; i < header->e_phnum; i++)
        if (parts[i].p_type == PT_DYNAMIC) dynamic = (const Elf64_Dyn *)(base + parts[i].p_offset);
    const Elf64_Sym *symbols = NULL;
    const char *names = NULL;
    for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
        if (dynamic->d_tag == DT_SYMTAB) symbols = (const Elf64_Sym *)(base + dynamic->d_un.d_ptr);
        if (dynamic->d_tag == DT_STRTAB) names = base + dynamic->d_un.d_ptr;
    }
    /* The table of names follows the table of symbols. */
    for (const Elf64_Sym *one = symbols; one && names && (const char *)one < names; one++) {
        const char *name = names + one->st_name;
        if (!strcmp(name, "__vdso_clock_gettime") && one->st_size >= (size_t)(vdso_end - vdso_code) + 16)
            at_clock_gettime = one->st_value;
        if (!strcmp(name, "__vdso_gettimeofday")) at_gettimeofday = one->st_value;
        if (!strcmp(name, "__vdso_time")) at_time = one->st_value;
    }
#endif
    hidden = !(at_clock_gettime && at_gettimeofday && at_time);
}

/* After the jump of 5 bytes, and aligned to 8 bytes: a word that straddles two cache lines could tear. */
static unsigned long code_start(void) { return (at_clock_gettime + 5 + 7) & ~7UL; }

static void write_clock(struct process *p) {
    if (!p->clock) return;
    int64_t words[2] = {now - boot, now + step};
    if (pwrite(p->mem, words, sizeof words, (off_t)p->clock) != sizeof words) p->clock = 0;
}

static unsigned long vdso_of(pid_t pid) {
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/auxv", pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    unsigned long pairs[80], base = 0;
    ssize_t size = file < 0 ? 0 : read(file, pairs, sizeof pairs);
    if (file >= 0) close(file);
    for (size_t i = 0; size > 0 && (i + 1) * sizeof *pairs < (size_t)size; i += 2)
        if (pairs[i] == AT_SYSINFO_EHDR) base = pairs[i + 1];
    return base;
}

static void open_memory(struct process *p) {
    char path[40];
    if (p->mem >= 0) close(p->mem);
    snprintf(path, sizeof path, "/proc/%d/mem", p->pid);
    p->mem = open(path, O_RDWR | O_CLOEXEC);
}

static void find_clock(struct process *p) {
#if defined(__x86_64__)
    unsigned long base = hidden ? 0 : vdso_of(p->pid);
    p->clock = base ? base + code_start() + (unsigned long)(vdso_words - vdso_code) : 0;
#else
    p->clock = 0;
#endif
}

/* Remove the vDSO's address from the vector that a new program reads: its clock reads are then system calls. */
static void hide_vdso(pid_t pid) {
    regs_t regs;
    unsigned long at, word = 1;
    if (!read_regs(pid, &regs)) return;
    at = SP(&regs) + sizeof at; /* after the number of arguments: arguments, 0, environment, 0, pairs */
    for (int zeros = 0; zeros < 2; at += sizeof at) {
        if (!get(pid, at, &word, sizeof word)) return;
        zeros += word == 0;
    }
    for (unsigned long pair[2]; get(pid, at, pair, sizeof pair) && pair[0] != AT_NULL; at += sizeof pair)
        if (pair[0] == AT_SYSINFO_EHDR) {
            pair[0] = AT_IGNORE;
            put(pid, at, pair, sizeof pair);
        }
}

static void overwrite_vdso(struct process *p) {
#if defined(__x86_64__)
    unsigned long base = hidden ? 0 : vdso_of(p->pid), start = base + code_start();
    size_t size = (size_t)(vdso_end - vdso_code);
    unsigned long from[] = {at_clock_gettime, at_gettimeofday, at_time};
    unsigned long to[] = {start, start + (unsigned long)(vdso_gettimeofday - vdso_code),
                          start + (unsigned long)(vdso_time - vdso_code)};
    bool done = base && pwrite(p->mem, vdso_code, size, (off_t)start) == (ssize_t)size;
    for (int i = 0; i < 3 && done; i++) {
        unsigned char jump[5] = {0xe9};
        int32_t distance = (int32_t)(to[i] - (base + from[i] + sizeof jump));
        memcpy(jump + 1, &distance, sizeof distance);
        done = pwrite(p->mem, jump, sizeof jump, (off_t)(base + from[i])) == sizeof jump;
    }
    if (done) {
        find_clock(p);
        write_clock(p);
        return;
    }
#endif
    p->clock = 0;
    hide_vdso(p->pid);
}

/* ---- processes and threads */

static int open_of(struct task *t, const char *name) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/%s", t->process->pid, t->tid, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static void close_files(struct task *t) {
    if (t->stat >= 0) close(t->stat);
    if (t->schedstat >= 0) close(t->schedstat);
    t->stat = t->schedstat = -1;
}

static pid_t group_of(pid_t tid) {
    char path[40], text[512], *found;
    snprintf(path, sizeof path, "/proc/%d/status", tid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = file < 0 ? 0 : read(file, text, sizeof text - 1);
    if (file >= 0) close(file);
    text[size > 0 ? size : 0] = 0;
    return (found = strstr(text, "\nTgid:")) ? atoi(found + 6) : tid;
}

static struct process *process_of(pid_t pid) {
    struct process *p;
    for (p = processes; p; p = p->next)
        if (p->pid == pid) return p;
    if (!(p = calloc(1, sizeof *p))) _exit(1);
    *p = (struct process){.pid = pid, .mem = -1, .alarm = NEVER, .next = processes};
    processes = p;
    open_memory(p);
    if (pid != program) { /* the program itself has the tracer's vDSO until its exec */
        find_clock(p);
        write_clock(p);
    }
    return p;
}

static struct task *task_of(pid_t tid) {
    struct task **at = &tasks, *t;
    for (; (t = *at); at = &t->next)
        if (t->tid == tid) break;
    if (t) {
        *at = t->next;
    } else {
        if (++task_count > MOST_TASKS) {
            say("end it started more than %d threads", MOST_TASKS);
            _exit(1);
        }
        if (!(t = calloc(1, sizeof *t))) _exit(1);
        *t = (struct task){.tid = tid, .deadline = NEVER, .stat = -1, .schedstat = -1};
        t->process = process_of(group_of(tid));
        t->process->tasks++;
        changed = true;
    }
    t->next = tasks; /* the most recently active first: the check for idleness ends at the first one that runs */
    return tasks = t;
}

static void remove_timers(struct process *p, bool fds_too) {
    for (struct timer **at = &timers, *one; (one = *at);)
        if (one->process == p && (fds_too || !one->is_fd)) {
            *at = one->next;
            free(one);
        } else {
            at = &one->next;
        }
}

static void remove_task(struct task *gone) {
    struct process *p = gone->process;
    for (struct task **at = &tasks; *at; at = &(*at)->next)
        if (*at == gone) {
            *at = gone->next;
            break;
        }
    close_files(gone);
    free(gone);
    task_count--;
    changed = true;
    if (--p->tasks) return;
    remove_timers(p, true);
    for (struct process **at = &processes; *at; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            break;
        }
    if (p->mem >= 0) close(p->mem);
    free(p);
}

static void resume(struct task *t, int sig) {
    ptrace(t->wait ? PTRACE_SYSCALL : PTRACE_CONT, t->tid, 0, (long)sig);
}

static void signal_process(pid_t pid, int sig) { syscall(SYS_kill, pid, sig); }

/* ---- timers of the kernel, which the tracer keeps */

static struct timer *timer_of(struct process *p, bool is_fd, int id) {
    for (struct timer *one = timers; one; one = one->next)
        if (one->process == p && one->is_fd == is_fd && one->id == id) return one;
    return NULL;
}

static struct timer *add_timer(struct process *p, bool is_fd, int id, int clock) {
    struct timer *one = timer_of(p, is_fd, id);
    if (!one) {
        if (!(one = calloc(1, sizeof *one))) _exit(1);
        one->next = timers;
        timers = one;
    }
    struct timer *next = one->next;
    *one = (struct timer){.process = p, .is_fd = is_fd, .id = id, .clock = clock, .due = NEVER, .next = next};
    return one;
}

static void remove_timer(struct timer *gone) {
    for (struct timer **at = &timers; *at; at = &(*at)->next)
        if (*at == gone) {
            *at = gone->next;
            free(gone);
            return;
        }
}

/* Return a copy of a tracee's file descriptor, or -1. */
static int copy_fd(pid_t pid, int fd) {
    int process = (int)syscall(SYS_pidfd_open, pid, 0);
    int found = process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, fd, 0);
    if (process >= 0) close(process);
    return found;
}

/* Set a timerfd in real time: let it expire now, or disarm it. False if it is gone. */
static bool set_timerfd(struct timer *one, bool expire) {
    int fd = copy_fd(one->process->pid, one->id);
    struct itimerspec value = {{0, 0}, {0, expire}};
    bool done = fd >= 0 && timerfd_settime(fd, 0, &value, NULL) == 0;
    struct pollfd ready = {fd, POLLIN, 0};
    if (done && expire) poll(&ready, 1, 100); /* its waiters are woken before it is readable here */
    if (fd >= 0) close(fd);
    return done;
}

static ns_t left_until(ns_t due) { return due == NEVER ? 0 : max_ns(due - now, 1000); }

static void write_timer(pid_t tid, unsigned long to, ns_t due, ns_t interval, int unit) {
    if (!to) return;
    write_time(tid, to, interval, unit);
    write_time(tid, to + 2 * sizeof(int64_t), left_until(due), unit);
}

/* Set a timer from the itimerspec or itimerval of a call. False if the kernel would refuse it. */
static bool read_timer(pid_t tid, unsigned long from, int unit, bool absolute, int clock, ns_t *due, ns_t *interval) {
    ns_t value;
    if (!read_time(tid, from, unit, interval) || !read_time(tid, from + 2 * sizeof(int64_t), unit, &value)) return false;
    *due = !value ? NEVER : absolute ? from_clock(clock, value) : now + value + MARGIN;
    return true;
}

static long set_posix_timer(struct task *t, struct timer *one, regs_t *regs) {
    ns_t due, interval;
    bool absolute = *arg(regs, 1) & TIMER_ABSTIME;
    if (!read_timer(t->tid, *arg(regs, 2), 1, absolute, one->clock, &due, &interval)) return -EINVAL;
    write_timer(t->tid, *arg(regs, 3), one->due, one->interval, 1);
    one->due = due;
    one->interval = interval;
    return 0;
}

static long set_itimer(struct task *t, unsigned long from, unsigned long to) {
    struct process *p = t->process;
    ns_t due = NEVER, interval = 0;
    if (from && !read_timer(t->tid, from, 1000, false, 0, &due, &interval)) return -EINVAL;
    write_timer(t->tid, to, p->alarm, p->interval, 1000);
    p->alarm = due;
    p->interval = interval;
    return 0;
}

static void fire(struct timer *one) {
    one->due = one->interval ? max_ns(one->due + one->interval, now) : NEVER;
    if (one->is_fd) {
        if (!set_timerfd(one, true)) remove_timer(one);
        return;
    }
    siginfo_t info = {.si_signo = one->event.sigev_signo, .si_code = SI_TIMER};
    info.si_timerid = one->id;
    info.si_value = one->event.sigev_value;
    pid_t pid = one->process->pid;
    if (one->event.sigev_notify == SIGEV_THREAD_ID)
        syscall(SYS_rt_tgsigqueueinfo, pid, one->event._sigev_un._tid, info.si_signo, &info);
    else if (one->event.sigev_notify != SIGEV_NONE)
        syscall(SYS_rt_sigqueueinfo, pid, info.si_signo, &info);
}

/* ---- sockets with time-outs */

static ino_t inode_of(pid_t pid, int fd) {
    char path[48];
    struct stat found;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    return stat(path, &found) ? 0 : found.st_ino;
}

static struct timeouts *timeouts_of(ino_t inode, bool make) {
    struct timeouts *one;
    for (one = sockets; one; one = one->next)
        if (one->inode == inode) return one;
    if (!make) return NULL;
    if (!(one = calloc(1, sizeof *one))) _exit(1);
    one->inode = inode;
    one->next = sockets;
    return sockets = one;
}

static bool is_socket(pid_t pid, int fd) {
    char path[48];
    struct stat found;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    return stat(path, &found) == 0 && S_ISSOCK(found.st_mode);
}

/* Keep a socket's time-out here, and leave the socket without one. False if the call is not about a socket. */
static bool socket_option(struct task *t, regs_t *regs, bool set) {
    int fd = (int)*arg(regs, 0), option = (int)*arg(regs, 2);
    pid_t pid = t->process->pid;
    if (!is_socket(pid, fd)) return false;
    struct timeouts *one = timeouts_of(inode_of(pid, fd), true);
    ns_t *which = option == SO_RCVTIMEO || option == 66 ? &one->receive : &one->send, value;
    uint32_t size = 2 * sizeof(int64_t);
    if (!set) {
        write_time(t->tid, *arg(regs, 3), *which, 1000);
        put(t->tid, *arg(regs, 4), &size, sizeof size);
    } else if ((uint32_t)*arg(regs, 4) < size || !read_time(t->tid, *arg(regs, 3), 1000, &value)) {
        return false;
    } else {
        *which = value;
    }
    answer(t, regs, 0);
    return true;
}

static bool receives(long nr) {
    static const long calls[] = {SYS_read, SYS_readv, SYS_recvfrom, SYS_recvmsg, SYS_accept, SYS_accept4};
    for (size_t i = 0; i < COUNT(calls); i++)
        if (calls[i] == nr) return true;
    return false;
}

static bool sends(long nr) {
    static const long calls[] = {SYS_write, SYS_writev, SYS_sendto, SYS_sendmsg, SYS_sendmmsg, SYS_connect,
                                 SYS_sendfile, SYS_splice, SYS_tee, SYS_vmsplice};
    for (size_t i = 0; i < COUNT(calls); i++)
        if (calls[i] == nr) return true;
    return false;
}

/* Look at the call in which a thread sleeps. Returns false if only our reader of its output can end it: it is not idle.
 * A call on a socket with a time-out gets a deadline: virtual time has not moved since the call began. */
static bool inspect_call(struct task *t) {
    char text[256] = "";
    long nr;
    unsigned long a[4];
    int file = open_of(t, "syscall");
    ssize_t size = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0) close(file);
    if (size <= 0 || sscanf(text, "%ld %lx %lx %lx", &nr, &a[0], &a[1], &a[2]) != 4) return true;
    if (!receives(nr) && !sends(nr)) return true;
    int fd = (int)(nr == SYS_splice ? a[2] : a[0]);
    ino_t inode = inode_of(t->process->pid, fd);
    if (sends(nr) && inode && (inode == outputs[0] || inode == outputs[1])) return false;
    struct timeouts *one = timeouts_of(inode, false);
    ns_t value = !one ? 0 : receives(nr) ? one->receive : one->send;
    if (value) {
        t->deadline = now + value + MARGIN;
        t->on_socket = true;
        t->order = ++order;
        t->wait = NULL;
    }
    return true;
}

/* ---- the calls at which a thread stops */

static void unsupported(const char *name) { say("unsupported %s", name); }

/* Set the deadline of a call that is about to wait. Returns false if the call does not wait for a finite time. */
static bool deadline_of(struct task *t, const struct wait *w, regs_t *regs, ns_t *deadline) {
    unsigned long from = *arg(regs, w->at);
    ns_t value;
    int clock = CLOCK_MONOTONIC;
    bool absolute = false;
    t->wall = false;
    if (w->kind == MS) {
        if ((int)from <= 0) return false;
        *deadline = now + (ns_t)(int)from * 1000000 + MARGIN;
        return true;
    }
    if (!from || !read_time(t->tid, from, w->kind == SELECT ? 1000 : 1, &value)) return false;
    if (w->kind == CLOCK_SLEEP) {
        clock = (int)*arg(regs, 0);
        absolute = *arg(regs, 1) & TIMER_ABSTIME;
        if (!is_wall(clock) && !is_monotonic(clock)) return false;
    } else if (w->kind == FUTEX) {
        int op = (int)*arg(regs, 1), command = op & FUTEX_CMD_MASK;
        absolute = command != FUTEX_WAIT;
        if (op & FUTEX_CLOCK_REALTIME || command == FUTEX_LOCK_PI) clock = CLOCK_REALTIME;
    } else if (w->kind == MQ) {
        absolute = true;
        clock = CLOCK_REALTIME;
    } else if (w->kind == FUTEXV || w->kind == FUTEX2) {
        absolute = true;
        clock = (int)*arg(regs, w->kind == FUTEXV ? 4 : 5);
    }
    t->wall = absolute && is_wall(clock);
    *deadline = (absolute ? from_clock(clock, value) : now + value) + MARGIN;
    return absolute || value;
}

static void begin_wait(struct task *t, const struct wait *w, regs_t *regs) {
    ns_t deadline;
    if (!deadline_of(t, w, regs, &deadline)) return;
    bool again = t->again && IP(regs) == IP(&t->saved) && SP(regs) == SP(&t->saved) && NR(regs) == NR(&t->saved);
    if (again) deadline = t->old; /* restarted by the kernel: its time goes on */
    if (deadline - MARGIN <= now && w->kind != MS && !again) { /* absolute, and over: real time must not decide it */
        answer(t, regs, w->result);
        return;
    }
    t->saved = *regs;
    t->wait = w;
    t->deadline = deadline;
    t->on_socket = false;
    t->order = ++order;
    if (w->kind == SLEEP || w->kind == CLOCK_SLEEP) { /* a sleep cannot be infinite; this call is interrupted alike */
        set_call(t->tid, regs, SYS_ppoll);
        for (int i = 0; i < 5; i++) *arg(regs, i) = 0;
    } else {
        *arg(regs, w->at) = w->kind == MS ? (unsigned long)-1 : 0;
    }
    write_regs(t->tid, regs);
}

static void clear_sets(struct task *t) {
    static const char zeros[1024 / 8 * 8];
    size_t words = ((size_t)*arg(&t->saved, 0) + 63) / 64 * 8;
    for (int i = 1; i <= 3; i++) put(t->tid, *arg(&t->saved, i), zeros, words < sizeof zeros ? words : sizeof zeros);
}

/* Write the rest of a wait's time where the kernel would write it. */
static void write_rest(struct task *t, bool interrupted, bool over) {
    const struct wait *w = t->wait;
    ns_t rest = over ? 0 : max_ns(t->deadline - MARGIN - now, 0);
    unsigned long at = *arg(&t->saved, w->at);
    if (w->kind == SELECT || w->kind == PSELECT || w->kind == PPOLL) write_time(t->tid, at, rest, w->kind == SELECT ? 1000 : 1);
    if (w->kind == SLEEP && interrupted && !over) write_time(t->tid, *arg(&t->saved, 1), rest, 1);
    if (w->kind == CLOCK_SLEEP && interrupted && !over && !(*arg(&t->saved, 1) & TIMER_ABSTIME))
        write_time(t->tid, *arg(&t->saved, 3), rest, 1);
}

static void created_timer(struct task *t, long result) {
    int id;
    if (t->wait->kind == CREATE_FD) {
        if (result >= 0) add_timer(t->process, true, (int)result, (int)*arg(&t->saved, 0));
    } else if (result == 0 && get(t->tid, *arg(&t->saved, 2), &id, sizeof id)) {
        struct timer *one = add_timer(t->process, false, id, (int)*arg(&t->saved, 0));
        one->event = t->event;
        if (!*arg(&t->saved, 1)) one->event = (struct sigevent){.sigev_signo = SIGALRM, .sigev_value.sival_int = id};
    }
}

static bool was_interrupted(long result) { return result == -EINTR || (result <= -512 && result >= -516); }

static void end_wait(struct task *t) {
    regs_t regs;
    if (!read_regs(t->tid, &regs)) return;
    long result = (long)RESULT(&regs);
    bool creates = t->wait->kind == CREATE || t->wait->kind == CREATE_FD;
    bool interrupted = was_interrupted(result), over = t->ending && interrupted;
    if (creates) {
        created_timer(t, result);
    } else {
        write_rest(t, interrupted, over);
        if (over && (t->wait->kind == SELECT || t->wait->kind == PSELECT)) clear_sets(t);
        regs_t before = t->saved;
        RESULT(&before) = (unsigned long)(over ? t->wait->result : interrupted && result != -EINTR ? -KERNEL_RESTART : result);
#if defined(__x86_64__)
        if (over) NR(&before) = -1ULL; /* so that nothing is restarted */
#endif
        write_regs(t->tid, &before);
        t->again = interrupted && !over;
        t->old = t->deadline;
    }
    t->wait = NULL;
    t->ending = false;
    t->deadline = NEVER;
}

/* End a call on a socket: the thread has stopped because it was interrupted. */
static void end_socket_call(struct task *t) {
    regs_t regs;
    t->ending = t->on_socket = false;
    t->deadline = NEVER;
    if (!read_regs(t->tid, &regs)) return;
#if defined(__x86_64__)
    long nr = (long)NR(&regs);
    if (nr < 0 || !was_interrupted((long)RESULT(&regs))) return;
    RESULT(&regs) = (unsigned long)(nr == SYS_connect ? -EINPROGRESS : -EAGAIN);
    NR(&regs) = -1ULL;
#else
    /* arm64 has prepared the restart already: the next instruction is the call itself. */
    RESULT(&regs) = (unsigned long)(NR(&regs) == SYS_connect ? -EINPROGRESS : -EAGAIN);
    IP(&regs) += 4;
#endif
    write_regs(t->tid, &regs);
}

static bool is_outside(struct task *t, regs_t *regs) {
    unsigned char address[28] = {0};
    size_t size = *arg(regs, 2) < sizeof address ? *arg(regs, 2) : sizeof address;
    sa_family_t family;
    static const unsigned char local[16] = {[15] = 1}, mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (!get(t->tid, *arg(regs, 1), address, size)) return false;
    memcpy(&family, address, sizeof family);
    if (family == AF_INET) return address[4] != 127 && address[4] != 0;
    if (family != AF_INET6) return false;
    return memcmp(address + 8, local, 16) && (memcmp(address + 8, mapped, 12) || address[20] != 127);
}

/* Calls on timers. Returns false if the call goes to the kernel. */
static bool timer_call(struct task *t, regs_t *regs, long nr) {
    struct process *p = t->process;
    int id = (int)*arg(regs, 0);
    if (nr == SYS_alarm) {
        ns_t left = left_until(p->alarm);
        p->alarm = id ? now + (ns_t)(unsigned)id * SECOND + MARGIN : NEVER;
        p->interval = 0;
        answer(t, regs, left ? (long)max_ns((left + SECOND / 2) / SECOND, 1) : 0);
    } else if (nr == SYS_setitimer) {
        answer(t, regs, set_itimer(t, *arg(regs, 1), *arg(regs, 2)));
    } else if (nr == SYS_getitimer) {
        write_timer(t->tid, *arg(regs, 1), p->alarm, p->interval, 1000);
        answer(t, regs, 0);
    } else if (nr == SYS_timer_create || nr == SYS_timerfd_create) {
        if (!is_wall(id) && !is_monotonic(id)) return false;
        if (nr == SYS_timer_create && *arg(regs, 1)) get(t->tid, *arg(regs, 1), &t->event, sizeof t->event);
        t->saved = *regs;
        t->wait = nr == SYS_timer_create ? &TIMER_CREATE : &TIMERFD_CREATE;
        t->deadline = NEVER;
        t->wall = false;
    } else if (nr == SYS_timerfd_settime || nr == SYS_timerfd_gettime) {
        struct timer *one = timer_of(p, true, id);
        if (!one) one = add_timer(p, true, id, CLOCK_MONOTONIC); /* inherited, or a copy */
        if (nr == SYS_timerfd_gettime) {
            write_timer(t->tid, *arg(regs, 1), one->due, one->interval, 1);
            answer(t, regs, 0);
            return true;
        }
        if (!set_timerfd(one, false)) {
            remove_timer(one);
            return false; /* not a timerfd */
        }
        answer(t, regs, set_posix_timer(t, one, regs));
    } else {
        struct timer *one = timer_of(p, false, id);
        if (!one) return false;
        if (nr == SYS_timer_settime) answer(t, regs, set_posix_timer(t, one, regs));
        if (nr == SYS_timer_gettime) {
            write_timer(t->tid, *arg(regs, 1), one->due, one->interval, 1);
            answer(t, regs, 0);
        }
        if (nr == SYS_timer_delete) {
            remove_timer(one);
            return false;
        }
    }
    return true;
}

static bool clock_call(struct task *t, regs_t *regs, long nr) {
    int clock = (int)*arg(regs, 0);
    if (nr == SYS_clock_gettime) {
        if (!is_wall(clock) && !is_monotonic(clock)) return false;
        write_time(t->tid, *arg(regs, 1), to_clock(clock), 1);
    } else if (nr == SYS_gettimeofday) {
        static const int zone[2];
        if (*arg(regs, 0)) write_time(t->tid, *arg(regs, 0), to_clock(CLOCK_REALTIME), 1000);
        put(t->tid, *arg(regs, 1), zone, sizeof zone);
    } else {
        int64_t seconds = to_clock(CLOCK_REALTIME) / SECOND;
        put(t->tid, *arg(regs, 0), &seconds, sizeof seconds);
        answer(t, regs, (long)seconds);
        return true;
    }
    answer(t, regs, 0);
    return true;
}

static void on_call(struct task *t) {
    regs_t regs;
    unsigned long data = 0;
    ptrace(PTRACE_GETEVENTMSG, t->tid, 0, &data);
    if (!read_regs(t->tid, &regs)) return;
    long nr = (long)NR(&regs);
    if (data) return unsupported("a 32-bit system call");
    t->ending = false; /* an interruption that comes too late must not end the next wait */
    for (size_t i = 0; i < COUNT(WAITS); i++)
        if (WAITS[i].nr == nr) {
            begin_wait(t, &WAITS[i], &regs);
            t->again = false;
            return;
        }
    t->again = false;
    switch (nr) {
    case SYS_clock_gettime: case SYS_gettimeofday: case SYS_time:
        clock_call(t, &regs, nr);
        break;
    case SYS_setsockopt: case SYS_getsockopt:
        socket_option(t, &regs, nr == SYS_setsockopt);
        break;
    case SYS_clock_settime: case SYS_settimeofday: case SYS_adjtimex: case SYS_clock_adjtime:
        answer(t, &regs, -EPERM);
        break;
    case SYS_io_uring_setup: /* its waits cannot be seen; most programs use epoll without it */
        say("denied io_uring_setup");
        answer(t, &regs, -ENOSYS);
        break;
    case SYS_connect:
        if (is_outside(t, &regs)) say("outside");
        break;
    case SYS_ptrace:
        unsupported("ptrace");
        break;
    case SYS_recvmmsg:
        unsupported("recvmmsg");
        break;
    default:
        timer_call(t, &regs, nr);
    }
}

static void on_exec(struct task *t) {
    unsigned long former = 0;
    char path[40];
    unsigned char header[20] = {0};
    struct stat found;
    struct process *p = t->process;
    ptrace(PTRACE_GETEVENTMSG, t->tid, 0, &former);
    for (struct task *one = tasks, *next; one; one = next) { /* exec ends the other threads, also the former leader */
        next = one->next;
        if (one != t && one->process == p) remove_task(one);
    }
    close_files(t);
    struct task fresh = {.tid = t->tid, .process = p, .deadline = NEVER, .stat = -1, .schedstat = -1, .next = t->next};
    *t = fresh;
    remove_timers(p, false);
    open_memory(p);
    overwrite_vdso(p);
    snprintf(path, sizeof path, "/proc/%d/exe", p->pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file >= 0 && read(file, header, sizeof header) == sizeof header && header[EI_CLASS] != ELFCLASS64)
        unsupported("a 32-bit program");
    if (file >= 0 && fstat(file, &found) == 0 && found.st_mode & S_ISUID && found.st_uid != geteuid())
        unsupported("a setuid program");
    if (file >= 0) close(file);
}

/* Return a number from a thread's status; 0 if the thread is gone. */
static unsigned long long status_of(pid_t tid, const char *name, int base) {
    char path[40], text[2048], *found;
    snprintf(path, sizeof path, "/proc/%d/status", tid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = file < 0 ? 0 : read(file, text, sizeof text - 1);
    if (file >= 0) close(file);
    text[size > 0 ? size : 0] = 0;
    return (found = strstr(text, name)) ? strtoull(found + strlen(name), NULL, base) : 0;
}

/* Whether a signal has a handler in a thread's process. */
static bool is_caught(pid_t tid, int sig) { return status_of(tid, "\nSigCgt:", 16) >> (sig - 1) & 1; }

static void on_stop(struct task *t, int status) {
    int sig = WSTOPSIG(status), event = status >> 16;
    unsigned long child = 0;
    pid_t tid = t->tid;
    t->slept = t->listening = false;
    switch (event) {
    case PTRACE_EVENT_SECCOMP:
        on_call(t);
        break;
    case PTRACE_EVENT_EXEC:
        on_exec(t);
        break;
    case PTRACE_EVENT_CLONE: case PTRACE_EVENT_FORK: case PTRACE_EVENT_VFORK:
        /* Its own first stop may have been reported before, and even its end. Then it is traced no more, although its
         * entry remains until its parent, which stands here, has waited for it. */
        if (!ptrace(PTRACE_GETEVENTMSG, tid, 0, &child) &&
            status_of((pid_t)child, "\nTracerPid:", 10) == (unsigned long long)getpid())
            task_of((pid_t)child);
        break;
    case PTRACE_EVENT_STOP:
        if (sig != SIGTRAP) { /* stopped as a job: it sleeps until it is continued */
            t->listening = true;
            ptrace(PTRACE_LISTEN, tid, 0, 0);
            return;
        }
        if (t->ending && !t->wait) end_socket_call(t);
        break;
    default:
        if (sig == (SIGTRAP | 0x80)) {
            if (t->wait) end_wait(t);
        } else {
            if (t->again && is_caught(tid, sig)) t->again = false;
            resume(t, sig);
            return;
        }
    }
    resume(t, 0);
}

static void drain(void) {
    int status;
    pid_t tid;
    /* Not without end: a program that never pauses must not keep the controller from being heard. */
    for (int i = 0; i < MOST_EVENTS && (tid = waitpid(-1, &status, __WALL | WNOHANG)) > 0; i++) {
        changed = true;
        if (WIFSTOPPED(status)) {
            on_stop(task_of(tid), status);
            continue;
        }
        for (struct task *t = tasks; t; t = t->next)
            if (t->tid == tid) {
                remove_task(t);
                break;
            }
        if (tid == program) {
            say("exit %d", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
            program = 0;
        }
    }
    if (!tasks && started) _exit(0); /* a program may end before its start has been reported */
}

/* ---- idleness */

static size_t read_file(int file, char *text, size_t most) {
    ssize_t size = pread(file, text, most - 1, 0);
    text[size > 0 ? size : 0] = 0;
    return size > 0 ? (size_t)size : 0;
}

static char state_of(struct task *t) {
    char text[512], *end;
    if (t->stat < 0) t->stat = open_of(t, "stat");
    read_file(t->stat, text, sizeof text);
    return (end = strrchr(text, ')')) && end[1] ? end[2] : 'X';
}

/* Return whether a thread sleeps, and whether it has slept since it was last looked at. The counters are read before the
 * state: if they are the same the next time, the thread has not run since this state was read. The time that it has
 * computed counts too: a thread is in the state S shortly before it gives up its processor, and may change its mind. */
static bool look(struct task *t, bool *since) {
    char text[128];
    unsigned long long cpu = 0, slices = 0;
    if (t->listening) {
        *since = t->slept;
        return t->slept = true;
    }
    if (t->schedstat < 0) t->schedstat = open_of(t, "schedstat");
    read_file(t->schedstat, text, sizeof text);
    sscanf(text, "%llu %*u %llu", &cpu, &slices);
    char state = state_of(t);
    /* A leader that has ended remains until its other threads end; only an event of theirs can follow. */
    bool asleep = state == 'S' || (state == 'Z' && t->process->tasks > 1);
    *since = asleep && t->slept && t->slices == slices && t->cpu == cpu;
    if (asleep && !*since && state == 'S') {
        t->deadline = NEVER;
        t->on_socket = false;
        asleep = inspect_call(t);
    }
    t->slept = asleep;
    t->slices = slices;
    t->cpu = cpu;
    return asleep;
}

/* Whether only another thread of the program, or a signal, can end a wait: not the server. */
static bool is_internal(const struct wait *w) {
    return w->kind == SLEEP || w->kind == CLOCK_SLEEP || w->kind == FUTEX || w->kind == FUTEXV || w->kind == FUTEX2;
}

/* Look at the threads outside our waits, then at the waits, then at the former again. If the former have slept all the
 * time, nobody has woken the latter meanwhile, and each thread in a wait needs one look: it cannot leave without a stop.
 * If nothing has happened since the last report, the waits that only the program itself can end need none. */
static bool is_idle(void) {
    bool all = true, since;
    for (struct task *t = tasks; t; t = t->next) {
        if (t->ending) return false;
        if (t->wait) continue;
        if (!look(t, &since)) return false;
        all = all && since;
    }
    changed = changed || !all;
    for (struct task *t = tasks; t; t = t->next)
        if (t->wait && (changed || !is_internal(t->wait)) && state_of(t) != 'S') return false;
    for (struct task *t = tasks; t && !all; t = t->next)
        if (!t->wait && (!look(t, &since) || !since)) return false;
    return true;
}

static ns_t next_deadline(void) {
    ns_t next = NEVER;
    for (struct task *t = tasks; t; t = t->next) next = min_ns(next, t->deadline);
    for (struct process *p = processes; p; p = p->next) next = min_ns(next, p->alarm);
    for (struct timer *one = timers; one; one = one->next) next = min_ns(next, one->due);
    return next;
}

/* End the first wait that is due, or let the first timer that is due expire. */
static void end_first(void) {
    struct task *first = NULL;
    ns_t due = now;
    for (struct process *p = processes; p; p = p->next)
        if (p->alarm <= due) {
            p->alarm = p->interval ? max_ns(p->alarm + p->interval, now) : NEVER;
            signal_process(p->pid, SIGALRM);
            return;
        }
    for (struct timer *one = timers; one; one = one->next)
        if (one->due <= due) return fire(one);
    for (struct task *t = tasks; t; t = t->next)
        if (t->deadline <= due && (!first || t->deadline < first->deadline ||
                                   (t->deadline == first->deadline && t->order < first->order)))
            first = t;
    if (!first) return;
    first->ending = true;
    if (ptrace(PTRACE_INTERRUPT, first->tid, 0, 0)) first->ending = false;
}

static void report_idle(void) {
    ns_t next = next_deadline();
    int live = 0;
    for (struct process *p = processes; p; p = p->next) live++;
    for (struct task *t = tasks; t; t = t->next) t->cpu_start = t->cpu;
    serial += changed;
    changed = wants_report = false;
    say("idle %ld %" PRId64 " %d", serial, next > now + LONGEST / 2 ? -1 : next, live);
}

static void report_busy(void) {
    uint64_t most = 0;
    ns_t at = real_ns();
    if (at - last_busy_report < BUSY_REPORT_NS) return;
    last_busy_report = at;
    for (struct task *t = tasks; t; t = t->next) {
        bool since;
        if (t->wait) continue;
        look(t, &since);
        if (t->cpu - t->cpu_start > most) most = t->cpu - t->cpu_start;
    }
    if (most > COMPUTING_NS) say("busy %" PRIu64, most);
}

static void set_time(ns_t to, ns_t new_step) {
    now = max_ns(now, to);
    for (struct task *t = tasks; t; t = t->next)
        if (t->wall && t->wait) t->deadline -= new_step - step;
    for (struct timer *one = timers; one; one = one->next)
        if (is_wall(one->clock) && one->due != NEVER) one->due -= new_step - step;
    step = new_step;
    for (struct process *p = processes; p; p = p->next) write_clock(p);
}

static void obey(void) {
    char text[160];
    ssize_t size = recv(control, text, sizeof text - 1, MSG_DONTWAIT);
    int64_t to, new_step;
    int sig;
    if (size == 0) _exit(0);
    if (size < 0) return;
    text[size] = 0;
    if (sscanf(text, "set %" SCNd64 " %" SCNd64, &to, &new_step) == 2) {
        set_time(to, new_step);
    } else if (sscanf(text, "to %" SCNd64 " %" SCNd64, &to, &new_step) == 2) {
        set_time(to, new_step);
        end_first();
        changed = wants_report = true;
    } else if (sscanf(text, "signal %d", &sig) == 1) {
        if (program) signal_process(-program, sig);
        changed = wants_report = true;
    } else {
        wants_report = true;
    }
}

/* ---- start */

static struct sock_filter filter[256];
static unsigned short filter_size;

static void emit(unsigned short code, uint32_t k, unsigned char yes, unsigned char no) {
    filter[filter_size++] = (struct sock_filter){code, yes, no, k};
}

static void load(size_t offset) { emit(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0); }
static void give(uint32_t action) { emit(BPF_RET | BPF_K, action, 0, 0); }
static void equal(uint32_t k, unsigned char yes, unsigned char no) { emit(BPF_JMP | BPF_JEQ | BPF_K, k, yes, no); }
static size_t low(int i) { return offsetof(struct seccomp_data, args) + (size_t)i * 8; }

/* The number of the call is loaded at the beginning of each block, and a block of another call is skipped. */
static void emit_call(const struct wait *w) {
    equal((uint32_t)w->nr, 1, 0);
    unsigned short skip = filter_size;
    emit(BPF_JMP | BPF_JA, 0, 0, 0);
    if (w->kind == MS) { /* a finite time-out is greater than 0 */
        load(low(w->at));
        emit(BPF_JMP | BPF_JSET | BPF_K, 0x80000000, 2, 0);
        equal(0, 1, 0);
        give(SECCOMP_RET_TRACE);
        give(SECCOMP_RET_ALLOW);
    } else {
        if (w->kind == FUTEX) { /* argument 3 is a time-out only in the operations that wait */
            static const uint32_t waits[] = {FUTEX_WAIT, FUTEX_LOCK_PI, FUTEX_WAIT_BITSET, FUTEX_WAIT_REQUEUE_PI, 13};
            load(low(1));
            emit(BPF_ALU | BPF_AND | BPF_K, 0x7f, 0, 0);
            for (unsigned char i = 0; i < 5; i++) equal(waits[i], (unsigned char)(5 - i), 0);
            give(SECCOMP_RET_ALLOW);
        }
        load(low(w->at));
        equal(0, 0, 2);
        load(low(w->at) + 4);
        equal(0, 1, 0);
        give(SECCOMP_RET_TRACE);
        give(SECCOMP_RET_ALLOW);
    }
    filter[skip].k = (uint32_t)(filter_size - skip - 1);
}

/* A call that is traced if the 32-bit argument `at` is `first`, and argument `at + 1`, if any, one of four options. */
static void emit_option(int nr, int at, uint32_t first, bool options) {
    equal((uint32_t)nr, 0, (unsigned char)(options ? 9 : 4));
    load(low(at));
    equal(first, 0, (unsigned char)(options ? 6 : 1));
    if (options) {
        load(low(at + 1));
        equal(SO_RCVTIMEO, 3, 0);
        equal(SO_SNDTIMEO, 2, 0);
        equal(66, 1, 0);
        equal(67, 0, 1);
    }
    give(SECCOMP_RET_TRACE);
    give(SECCOMP_RET_ALLOW);
}

static void build_filter(void) {
    load(offsetof(struct seccomp_data, arch));
    equal(ARCH, 1, 0);
    give(SECCOMP_RET_TRACE | 1);
    load(offsetof(struct seccomp_data, nr));
#if defined(__x86_64__)
    emit(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1); /* x32 */
    give(SECCOMP_RET_TRACE | 1);
#endif
    for (size_t i = 0; i < COUNT(ANSWERED); i++) {
        if (ANSWERED[i] < 0) continue;
        equal((uint32_t)ANSWERED[i], 0, 1);
        give(SECCOMP_RET_TRACE);
    }
    emit_option(SYS_setitimer, 0, ITIMER_REAL, false);
    emit_option(SYS_getitimer, 0, ITIMER_REAL, false);
    emit_option(SYS_setsockopt, 1, SOL_SOCKET, true);
    emit_option(SYS_getsockopt, 1, SOL_SOCKET, true);
    for (size_t i = 0; i < COUNT(WAITS); i++)
        if (WAITS[i].nr >= 0) emit_call(&WAITS[i]);
    static const struct wait receive = {SYS_recvmmsg, TIMESPEC, 4, 0};
    emit_call(&receive);
    give(SECCOMP_RET_ALLOW);
}

static void begin_program(int go, int failed, char **words, const struct rlimit *files) {
    char byte;
    int error;
    struct sock_fprog filters = {filter_size, filter};
    sigset_t none;
    setsid();
    if (read(go, &byte, 1) != 1) _exit(1);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGCHLD, SIG_DFL);
    setrlimit(RLIMIT_NOFILE, files);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filters)) {
        error = -errno;
    } else {
        execv(words[0], words + 1);
        error = errno;
    }
    if (write(failed, &error, sizeof error) < 0) _exit(126);
    _exit(127);
}

static void ignore(int sig) { (void)sig; }

static void begin(char **words) {
    int go[2], failed[2], error = 0, null = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct rlimit files, most;
    struct stat found;
    const long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEEXEC | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
                         PTRACE_O_TRACEVFORK | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;
    if (pipe2(go, O_CLOEXEC) || pipe2(failed, O_CLOEXEC) || getrlimit(RLIMIT_NOFILE, &files)) _exit(1);
    most = files;
    most.rlim_cur = most.rlim_max; /* two files for each thread */
    for (int i = 0; i < 2; i++) outputs[i] = fstat(i + 1, &found) ? 0 : found.st_ino;
    program = fork();
    if (program == 0) begin_program(go[0], failed[1], words, &files);
    if (program < 0) _exit(1);
    setrlimit(RLIMIT_NOFILE, &most);
    for (int i = 0; i < 3; i++) dup2(null, i); /* so that the program's pipes close with the program */
    close(failed[1]);
    close(go[0]);
    if (ptrace(PTRACE_SEIZE, program, 0, options)) {
        kill(program, SIGKILL);
        unsupported("ptrace is refused");
        _exit(1);
    }
    task_of(program);
    if (write(go[1], "", 1) != 1) _exit(1);
    close(go[1]);
    /* The program runs until its exec, which is a stop that must be handled before the pipe closes. */
    struct pollfd ready = {failed[0], POLLIN, 0};
    sigset_t none;
    sigemptyset(&none);
    pid_t pid = program;
    while (ppoll(&ready, 1, NULL, &none) <= 0) drain();
    if (read(failed[0], &error, sizeof error) == sizeof error) {
        if (error < 0) unsupported("seccomp is refused");
        else say("failed %d", error);
        _exit(1);
    }
    close(failed[0]);
    say("started %d", pid);
    started = true;
}

/* What the self-check runs: waits and clock reads of several kinds. Exits with 0 if virtual time passes right. */
static int probe(void) {
    const ns_t begun = real_ns();
    struct timespec hour = {3600, 0}, raw = {0, 0};
    struct timeval wall;
    int word = 0;
    nanosleep(&hour, NULL);
    poll(NULL, 0, 60000);
    syscall(SYS_futex, &word, FUTEX_WAIT, 0, &(struct timespec){60, 0}, NULL, 0);
    pid_t child = fork();
    if (child == 0) {
        nanosleep(&hour, NULL);
        _exit(7);
    }
    int status = 0;
    waitpid(child, &status, 0);
    signal(SIGALRM, ignore);
    alarm(60);
    pause();
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &raw);
    gettimeofday(&wall, NULL);
    const ns_t passed = real_ns() - begun, expected = 7380 * SECOND;
    if (passed < expected || passed > expected + SECOND / 100) return 1;
    if (raw.tv_sec * SECOND + raw.tv_nsec != real_ns() || wall.tv_sec != time(NULL)) return 2;
    return WEXITSTATUS(status) == 7 ? 0 : 3;
}

int main(int count, char **words) {
    if (count == 2 && !strcmp(words[1], "probe")) return probe();
    if (count < 6) return 2;
    control = atoi(words[1]);
    now = strtoll(words[2], NULL, 10);
    boot = strtoll(words[3], NULL, 10);
    fcntl(control, F_SETFD, FD_CLOEXEC);
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    sigset_t blocked, none;
    sigemptyset(&none);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGCHLD);
    sigprocmask(SIG_SETMASK, &blocked, NULL);
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = ignore}, NULL);
    find_vdso();
    build_filter();
    begin(words + 4);
    ns_t pause = 0;
    for (;;) {
        drain();
        struct pollfd ready = {control, POLLIN, 0};
        struct timespec delay, *most = NULL;
        siginfo_t next = {.si_pid = 0};
        if (waitid(P_ALL, 0, &next, WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL) == 0 && next.si_pid) {
            delay = (struct timespec){0, 0}; /* more events */
            most = &delay;
        } else if (wants_report && is_idle()) {
            report_idle();
            pause = 0;
        } else if (wants_report) {
            report_busy();
            pause = pause ? min_ns(pause * 2, 500000) : 20000;
            delay = (struct timespec){0, pause};
            most = &delay;
        }
        int found = ppoll(&ready, 1, most, &none);
        if (found > 0) obey();
        if (found != 0) pause = 0;
    }
}
