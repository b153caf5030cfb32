/* Stands in for libnvidia-ml.so.1 and libcuda.so.1. FAKE_DRIVER says how it behaves:
   two (different GPUs, the second one faster), twins, mig, small (memory not known), denied (the second GPU),
   hang, hang-later (at the second GPU), crash, crash-later, or code:N, which the start returns. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { unsigned long long total, free, used; } memory_t;

static const char *mode(void) { const char *set = getenv("FAKE_DRIVER"); return set ? set : "two"; }
static int is(const char *name) { return strcmp(mode(), name) == 0; }
static void hang(void) { for (;;) pause(); }
static void crash(void) { signal(SIGSEGV, SIG_DFL); raise(SIGSEGV); }
static int copy(char *to, const char *from, unsigned size) { strncpy(to, from, size); return 0; }
static int start(void) {
    if (is("hang")) hang();
    if (is("crash")) crash();
    return strncmp(mode(), "code:", 5) ? 0 : atoi(mode() + 5);
}

/* NVML: a device is 1 or 2, its MIG instances 11, 12, 13 */
int nvmlInitWithFlags(unsigned flags) { (void)flags; return start(); }
const char *nvmlErrorString(int code) { return code == 18 ? "Driver/library version mismatch" : "Some error"; }
int nvmlSystemGetDriverVersion(char *to, unsigned size) { return copy(to, "580.159.04", size); }
int nvmlSystemGetCudaDriverVersion_v2(int *to) { *to = 13000; return 0; }
int nvmlDeviceGetCount_v2(unsigned *to) { *to = is("mig") ? 1 : 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **to) {
    if (is("denied") && index == 1) return 4;
    *to = (void *)(long)(index + 1);
    return 0;
}
int nvmlDeviceGetName(void *device, char *to, unsigned size) {
    long number = (long)device;
    if (number == 2 && is("hang-later")) hang();
    if (number == 2 && is("crash-later")) crash();
    if (number > 10) return copy(to, number < 13 ? "NVIDIA H100 MIG 1c.3g.40gb" : "NVIDIA H100 MIG 1g.10gb", size);
    return copy(to, number == 1 || is("twins") ? "NVIDIA T4" : "NVIDIA\tH200", size);
}
int nvmlDeviceGetUUID(void *device, char *to, unsigned size) {
    static const char *mig[] = {"MIG-c788539f-0000", "MIG-405bbda1-0000", "MIG-b4b2228d-0000"};
    long number = (long)device;
    if (number > 10) return copy(to, mig[number - 11], size);
    return copy(to, number == 1 ? "GPU-9942190a-aa31-4ff1-4aa9-c388d80f85f1" : "GPU-9e8d35e3-a134-0fdd-0e01-23811fdbd293", size);
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    *major = device == (void *)1 ? 7 : 9;
    *minor = device == (void *)1 ? 5 : 0;
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, memory_t *to) {
    if (is("small")) return 3;
    to->total = (unsigned long long)(long)device << 30;
    to->free = to->total - 4096;
    return 0;
}
int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *later) {
    (void)device;
    *now = *later = is("mig");
    return is("mig") ? 0 : 3;
}
int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *to) { (void)device; *to = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **to) {
    (void)device;
    if (index == 2 || index > 3) return 6; /* a slot may be empty */
    *to = (void *)(long)(11 + index - (index == 3));
    return 0;
}
int nvmlDeviceGetGpuInstanceId(void *device, unsigned *to) { *to = device == (void *)13 ? 9 : 1; return 0; }
int nvmlDeviceGetComputeInstanceId(void *device, unsigned *to) { *to = device == (void *)12; return 0; }
int nvmlDeviceGetNumGpuCores(void *device, unsigned *to) { *to = device == (void *)1 ? 2560 : 16896; return 0; }
int nvmlDeviceGetMaxClockInfo(void *device, int clock, unsigned *to) { (void)device; *to = clock == 1 ? 1980 : 0; return 0; }

/* libcuda: what the probe must not let it see is counted as no device */
int cuDriverGetVersion(int *to) { *to = 12040; return 0; }
int cuInit(unsigned flags) { (void)flags; return getenv("CUDA_VISIBLE_DEVICES") ? 100 : start(); }
int cuDeviceGetCount(int *to) { *to = 1; return 0; }
int cuDeviceGet(int *to, int index) { *to = index; return 0; }
int cuDeviceGetName(char *to, int size, int device) { (void)device; return copy(to, "Orin", (unsigned)size); }
int cuDeviceGetAttribute(int *to, int attribute, int device) { (void)device; *to = attribute == 75 ? 8 : 7; return 0; }
int cuDeviceTotalMem_v2(size_t *to, int device) { (void)device; *to = (size_t)30 << 30; return 0; }
int cuDeviceGetUuid(unsigned char *to, int device) { (void)device; memset(to, 0xab, 16); return 0; }
