/*
 * Preloaded into User Mode Linux by ipvs-vm: lets a kernel that knows less of the CPU than the
 * host does set the floating-point state of its processes.
 *
 * Why. User Mode Linux keeps the extended state ("xstate") of each process in a buffer whose size
 * was fixed when it was built: 2696 bytes, that is everything up to AVX-512 and PKRU. The host
 * demands the whole of its own layout in PTRACE_SETREGSET; on a CPU with AMX that is 11008 bytes.
 * A shorter buffer is refused with EFAULT, and the guest dies as it starts its first process
 * ("ptrace set fp regs failed, errno = 14"). Here the buffer is filled up to the host's size.
 *
 * Why that is sound. The layout is the one XSAVE writes without compaction: each component has its
 * own fixed offset, whatever the others do, and a header at byte 512 begins with XSTATE_BV, one
 * bit for each component that is not in its initial state. What lies behind the buffer given
 * belongs to components whose bit is clear, so the CPU never reads the zeros. This is checked at
 * each call. (A guest process cannot come to use AMX in the first place: the host asks for
 * arch_prctl(ARCH_REQ_XCOMP_PERM) first, and the guest's kernel has no such call.)
 *
 * Every other request, and every buffer that is long enough, goes through untouched.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>

enum { XSTATE_HEADER = 512, XSTATE_LEAF = 0xd, FIRST_EXTENDED = 2 };

static long (*libc_ptrace)(enum __ptrace_request, ...);

/* Not on the stack: the caller runs on a kernel stack of a few pages. One thread traces. */
static unsigned char whole[1 << 16] __attribute__((aligned(64)));
static size_t host_size; /* 0: not yet asked for */

__attribute__((constructor)) static void find_ptrace(void)
{
	libc_ptrace = (long (*)(enum __ptrace_request, ...))dlsym(RTLD_NEXT, "ptrace");
}

/* The components that lie entirely within the first `length` bytes, as a mask for XSTATE_BV. */
static uint64_t components_within(size_t length)
{
	uint64_t mask = (1 << FIRST_EXTENDED) - 1; /* x87 and SSE: the first 512 bytes */

	for (unsigned i = FIRST_EXTENDED; i < 63; i++) {
		unsigned size, offset, c, d;

		if (__get_cpuid_count(XSTATE_LEAF, i, &size, &offset, &c, &d) && size != 0 &&
		    (size_t)offset + size <= length)
			mask |= UINT64_C(1) << i;
	}
	return mask;
}

static long set_padded(pid_t pid, void *type, const struct iovec *given)
{
	static uint64_t within;
	static size_t within_of;
	struct iovec all = { whole, sizeof whole };
	uint64_t in_use;

	if (host_size == 0) {
		if (libc_ptrace(PTRACE_GETREGSET, pid, type, &all) < 0)
			return -1;
		host_size = all.iov_len;
	}
	if (given->iov_len >= host_size || given->iov_len < XSTATE_HEADER + sizeof in_use)
		return libc_ptrace(PTRACE_SETREGSET, pid, type, (void *)given);

	if (within_of != given->iov_len) {
		within_of = given->iov_len;
		within = components_within(within_of);
	}
	memcpy(&in_use, (const char *)given->iov_base + XSTATE_HEADER, sizeof in_use);
	if (in_use & ~within) {
		static const char why[] =
			"uml-xstate: a guest process uses a CPU feature its kernel cannot save\n";
		if (write(STDERR_FILENO, why, sizeof why - 1) < 0) { /* nothing left to tell */ }
		errno = EFAULT;
		return -1;
	}
	memcpy(whole, given->iov_base, given->iov_len);
	memset(whole + given->iov_len, 0, host_size - given->iov_len);
	all.iov_len = host_size;
	return libc_ptrace(PTRACE_SETREGSET, pid, type, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list args;

	va_start(args, request);
	pid_t pid = va_arg(args, pid_t);
	void *addr = va_arg(args, void *);
	void *data = va_arg(args, void *);
	va_end(args);

	if (request == PTRACE_SETREGSET && (uintptr_t)addr == NT_X86_XSTATE)
		return set_padded(pid, addr, data);
	return libc_ptrace(request, pid, addr, data);
}
