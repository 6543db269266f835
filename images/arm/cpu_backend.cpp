// The entry points of ggml's CPU backend, which is here twice (two-backends.cmake): each call goes to the one for this CPU.
// A name that another part of ggml calls and that is not here would be one that does not link, or the backend for older cores.

#include <asm/hwcap.h>
#include <sys/auxv.h>

#include "ggml-cpu.h"
#include "traits.h"

extern "C" {
ggml_backend_reg_t ggml_backend_cpu_reg_armv8();
ggml_backend_reg_t ggml_backend_cpu_reg_armv82();
ggml_threadpool *  ggml_threadpool_new_armv8(ggml_threadpool_params * params);
ggml_threadpool *  ggml_threadpool_new_armv82(ggml_threadpool_params * params);
}
std::vector<ggml_backend_buffer_type_t> & ggml_backend_cpu_get_extra_buffer_types_armv8();
std::vector<ggml_backend_buffer_type_t> & ggml_backend_cpu_get_extra_buffer_types_armv82();

namespace {

// What the second backend was compiled for: a core that has only some of it takes the first.
bool newer() {
    constexpr unsigned long wanted = HWCAP_ASIMDDP | HWCAP_FPHP | HWCAP_ASIMDHP | HWCAP_ATOMICS | HWCAP_ASIMDRDM | HWCAP_CRC32;
    static const bool found = (getauxval(AT_HWCAP) & wanted) == wanted;
    return found;
}

}  // namespace

extern "C" ggml_backend_reg_t ggml_backend_cpu_reg() {
    return newer() ? ggml_backend_cpu_reg_armv82() : ggml_backend_cpu_reg_armv8();
}

extern "C" ggml_threadpool * ggml_threadpool_new(ggml_threadpool_params * params) {
    return newer() ? ggml_threadpool_new_armv82(params) : ggml_threadpool_new_armv8(params);
}

std::vector<ggml_backend_buffer_type_t> & ggml_backend_cpu_get_extra_buffer_types() {
    return newer() ? ggml_backend_cpu_get_extra_buffer_types_armv82() : ggml_backend_cpu_get_extra_buffer_types_armv8();
}
