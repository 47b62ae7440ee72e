/* A stand-in for libnvidia-ml.so.1 with the calls that testbed/measurement/gpu_metrics.py makes.
 *
 * The file named by NVML_STAND_IN says what they answer; it is read at every call, so a test can change it meanwhile.
 * One line each, `<call> <gpu> <status> <value>`; a call without a line answers NVML_ERROR_UNKNOWN (999):
 *
 *     init - 0 0            count - 0 2
 *     utilisation 0 0 37    (percent)      memory 0 0 1073741824  (bytes used)
 *     power 0 0 250500      (milliwatt)    energy 1 3 0           (status 3: not supported)
 *     clock 0 0 1980        (MHz of the SMs)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int nvmlReturn_t;
typedef struct gpu { char index[8]; } *nvmlDevice_t;
typedef struct { unsigned int gpu, memory; } nvmlUtilization_t;
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;

enum { GPUS = 8, CLOCK_SM = 1, INVALID_ARGUMENT = 2, UNKNOWN = 999 };
static struct gpu gpus[GPUS];

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
    return 0;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    snprintf(name, length, "Stand-in GPU %s", device->index);
    return 0;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilisation) {
    return answer_unsigned("utilisation", device->index, &utilisation->gpu);
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
    return type == CLOCK_SM ? answer_unsigned("clock", device->index, megahertz) : INVALID_ARGUMENT;
}
