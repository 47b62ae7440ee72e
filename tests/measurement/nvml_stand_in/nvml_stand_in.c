/* A stand-in for libnvidia-ml.so.1 with the calls that testbed/measurement/gpu_metrics.py makes.
 *
 * The file named by NVML_STAND_IN says what they answer; it is read at every call, so a test can change it meanwhile.
 * One line each, `<call> <gpu> <status> <value>`; a call without a line answers NVML_ERROR_UNKNOWN (999):
 *
 *     init - 0 0            count - 0 2
 *     utilisation 0 0 37    (percent)      memory 0 0 1073741824  (bytes used)
 *     power 0 0 250500      (milliwatt)    energy 1 3 0           (status 3: not supported)
 *     clock 0 0 1980        (MHz of the SMs)    memory_clock 0 0 3201
 *     memory_busy 0 0 12   temperature 0 0 36   throttle 0 0 4   (bits)
 *     uuid 1 0 17           (GPU-17; without a line GPU-<index>)    handle 1 4 0  (status 4: no permission)
 *     mig 0 0 1             (MIG is on; without a line it is not supported)    instance 0:1 0 0  (there is one)
 *     process 0 0 4711      (a process that computes there; without a line there is none)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int nvmlReturn_t;
typedef struct gpu { char index[16]; } *nvmlDevice_t;
typedef struct { unsigned int gpu, memory; } nvmlUtilization_t;
typedef struct {
    unsigned int pid;
    unsigned long long used_memory;
    unsigned int gpu_instance, compute_instance;
} nvmlProcessInfo_t;
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;

enum { GPUS = 8, INSTANCES = 2, CLOCK_SM = 1, CLOCK_MEM = 2, UNKNOWN = 999 };
enum { INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
static struct gpu gpus[GPUS], instances[GPUS][INSTANCES];

static nvmlReturn_t answer(const char *call, const char *gpu, unsigned long long *value) {
    char line_call[32], line_gpu[8];
    int status, found = UNKNOWN;
    const char *path = getenv("NVML_STAND_IN");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return UNKNOWN;
    while (found == UNKNOWN && fscanf(file, "%31s %7s %d %llu", line_call, line_gpu, &status, value) == 4)
        if (!strcmp(line_call, call) && !strcmp(line_gpu, gpu)) found = status;
    fclose(file);
    return found;
}

static nvmlReturn_t answer_unsigned(const char *call, const char *gpu, unsigned int *value) {
    unsigned long long wide = 0;
    nvmlReturn_t status = answer(call, gpu, &wide);
    if (!status) *value = (unsigned int)wide;
    return status;
}

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    unsigned long long ignored;
    (void)flags;
    return answer("init", "-", &ignored);
}

nvmlReturn_t nvmlShutdown(void) { return 0; }

const char *nvmlErrorString(nvmlReturn_t status) {
    static char text[32];
    snprintf(text, sizeof text, "stand-in status %d", status);
    return text;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) { return answer_unsigned("count", "-", count); }

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    if (index >= GPUS) return INVALID_ARGUMENT;
    snprintf(gpus[index].index, sizeof gpus[index].index, "%u", index);
    *device = &gpus[index];
    unsigned long long ignored;
    nvmlReturn_t status = answer("handle", gpus[index].index, &ignored);
    return status == UNKNOWN ? 0 : status;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    unsigned long long number;
    const char *kind = strchr(device->index, ':') ? "MIG" : "GPU";
    if (!answer("uuid", device->index, &number))
        snprintf(uuid, length, "%s-%llu", kind, number);
    else
        snprintf(uuid, length, "%s-%s", kind, device->index);
    return 0;
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    nvmlReturn_t status = answer_unsigned("mig", device->index, current);
    *pending = *current;
    return status == UNKNOWN ? NOT_SUPPORTED : status;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count) {
    (void)device;
    *count = INSTANCES;
    return 0;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t parent, unsigned int number, nvmlDevice_t *device) {
    unsigned long long ignored;
    if (number >= INSTANCES) return INVALID_ARGUMENT;
    struct gpu *instance = &instances[parent - gpus][number];
    snprintf(instance->index, sizeof instance->index, "%.4s:%u", parent->index, number);
    *device = instance;
    return answer("instance", instance->index, &ignored) ? NOT_FOUND : 0;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *found) {
    unsigned long long pid;
    if (answer("process", device->index, &pid)) {
        *count = 0;
        return 0;
    }
    unsigned int room = *count;
    *count = 1;
    if (room < 1) return INSUFFICIENT_SIZE;
    memset(found, 0, sizeof *found);
    found->pid = (unsigned int)pid;
    return 0;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    snprintf(name, length, "Stand-in GPU %s", device->index);
    return 0;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilisation) {
    nvmlReturn_t status = answer_unsigned("utilisation", device->index, &utilisation->gpu);
    return status ? status : answer_unsigned("memory_busy", device->index, &utilisation->memory);
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    return answer("memory", device->index, &memory->used);
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *milliwatts) {
    return answer_unsigned("power", device->index, milliwatts);
}

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *millijoules) {
    return answer("energy", device->index, millijoules);
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, int type, unsigned int *megahertz) {
    if (type == CLOCK_MEM) return answer_unsigned("memory_clock", device->index, megahertz);
    return type == CLOCK_SM ? answer_unsigned("clock", device->index, megahertz) : INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned int *celsius) {
    (void)sensor;
    return answer_unsigned("temperature", device->index, celsius);
}

nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *reasons) {
    return answer("throttle", device->index, reasons);
}
