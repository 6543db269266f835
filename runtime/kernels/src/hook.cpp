// Enters ggml's list of CPU extensions, which every operation asks first, from ggml's own threads.
// What the Rust side does not accept goes ggml's own way. Holds no arithmetic.

#include "ggml-backend-impl.h"
#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "traits.h"

#include <cstring>

extern "C" {
// The mirrors of `hook::Experts` and `hook::Product` in hook.rs, which documents the fields.
struct cloister_experts {
    uint64_t     count, stride;
    const void * ids;
    uint64_t     ids_stride, used, tokens, inputs, input_token_stride, output_token_stride;
};

struct cloister_product {
    int32_t      type;
    uint64_t     k, rows, columns;
    const void * weights;
    uint64_t     weights_stride;
    const void * input;
    uint64_t     input_stride;
    void *       output;
    uint64_t     output_stride;
    cloister_experts experts;
};

// The mirrors of `Tensor` and `Attention` in attention/mod.rs.
struct cloister_tensor {
    const void * data;
    uint64_t     token, head, stream;
};

struct cloister_attention {
    int32_t         key_type, value_type;
    float           scale;
    uint64_t        key_width, value_width, tokens, heads, kv_heads, streams, keys;
    cloister_tensor q, k, v, mask;
    const void *    sinks;
    void *          output;
};

size_t cloister_kernels_attention_work_size(const cloister_attention * attention, int nth);
void   cloister_kernels_attend(const cloister_attention * attention, void * work, int ith, int nth,
                               ggml_threadpool * threadpool);

// Bytes of work buffer; 0 declines. Looks at the type and the sizes only.
size_t cloister_kernels_work_size(const cloister_product * product);
void   cloister_kernels_compute(const cloister_product * product, void * work, int ith, int nth,
                                ggml_threadpool * threadpool);
}

namespace {

bool is_product(const ggml_tensor * op) {
    return op->op == GGML_OP_MUL_MAT || op->op == GGML_OP_MUL_MAT_ID;
}

// False for what no kernel could take: more dimensions than there are experts and tokens, elements or rows out of
// order, other element types. Decided from the shape alone, so that planning and computing decide alike.
bool describe(const ggml_tensor * op, cloister_product & product) {
    if (!is_product(op)) {
        return false;
    }
    const ggml_tensor * weights = op->src[0];
    const ggml_tensor * input   = op->src[1];
    const ggml_tensor * ids     = op->op == GGML_OP_MUL_MAT_ID ? op->src[2] : nullptr;
    const bool flat = weights->ne[3] == 1 && input->ne[3] == 1 && (ids || (weights->ne[2] == 1 && input->ne[2] == 1));
    if (!flat || !weights->buffer || !ggml_backend_buft_is_host(weights->buffer->buft) ||
        input->type != GGML_TYPE_F32 || op->type != GGML_TYPE_F32 || input->nb[0] != sizeof(float) ||
        op->nb[0] != sizeof(float) || weights->nb[0] != ggml_type_size(weights->type)) {
        return false;
    }
    product = { weights->type,     uint64_t(weights->ne[0]), uint64_t(weights->ne[1]), uint64_t(input->ne[1]),
                weights->data,     weights->nb[1],           input->data,              input->nb[1],
                op->data,          op->nb[1],                {} };
    if (ids) {
        if (ids->type != GGML_TYPE_I32 || ids->nb[0] != sizeof(int32_t) || ids->ne[2] != 1 || ids->ne[3] != 1 ||
            ids->ne[1] != input->ne[2]) {
            return false;
        }
        product.columns = uint64_t(input->ne[1] * input->ne[2]);
        product.experts = { uint64_t(weights->ne[2]), weights->nb[2],          ids->data,
                            ids->nb[1],               uint64_t(ids->ne[0]),    uint64_t(ids->ne[1]),
                            uint64_t(input->ne[1]),   input->nb[2],            op->nb[2] };
    }
    return true;
}

struct product_traits : ggml::cpu::tensor_traits {
    bool work_size(int, const ggml_tensor * op, size_t & size) override {
        cloister_product product;
        if (!describe(op, product)) {
            return false;
        }
        const size_t wanted = cloister_kernels_work_size(&product);
        if (wanted == 0) {
            return false;
        }
        size = wanted;
        return true;
    }

    bool compute_forward(ggml_compute_params * params, ggml_tensor * op) override {
        cloister_product product;
        if (!describe(op, product)) {
            return false;
        }
        const size_t wanted = cloister_kernels_work_size(&product);
        if (wanted == 0 || wanted > params->wsize) {
            return false;
        }
        cloister_kernels_compute(&product, params->wdata, params->ith, params->nth, params->threadpool);
        return true;
    }
};

cloister_tensor strided(const ggml_tensor * tensor) {
    return { tensor->data, tensor->nb[1], tensor->nb[2], tensor->nb[3] };
}

// False for what is ggml's own: slopes, capped scores, and elements or dimensions out of order.
bool describe(const ggml_tensor * op, cloister_attention & attention) {
    const ggml_tensor * q     = op->src[0];
    const ggml_tensor * k     = op->src[1];
    const ggml_tensor * v     = op->src[2];
    const ggml_tensor * mask  = op->src[3];
    const ggml_tensor * sinks = op->src[4];
    float scale, max_bias, softcap;
    memcpy(&scale, (const float *) op->op_params + 0, sizeof(float));
    memcpy(&max_bias, (const float *) op->op_params + 1, sizeof(float));
    memcpy(&softcap, (const float *) op->op_params + 2, sizeof(float));
    const bool plain = max_bias == 0.0f && softcap == 0.0f;
    const bool in_order = q->type == GGML_TYPE_F32 && op->type == GGML_TYPE_F32 && ggml_is_contiguous(op) &&
                          q->nb[0] == sizeof(float) && k->nb[0] == ggml_type_size(k->type) &&
                          v->nb[0] == ggml_type_size(v->type);
    const bool alike = q->ne[3] == k->ne[3] && k->ne[3] == v->ne[3] && k->ne[2] == v->ne[2] && k->ne[1] == v->ne[1] &&
                       q->ne[2] % k->ne[2] == 0;
    if (!plain || !in_order || !alike) {
        return false;
    }
    attention = { k->type,
                  v->type,
                  scale,
                  uint64_t(k->ne[0]),
                  uint64_t(v->ne[0]),
                  uint64_t(q->ne[1]),
                  uint64_t(q->ne[2]),
                  uint64_t(k->ne[2]),
                  uint64_t(k->ne[3]),
                  uint64_t(k->ne[1]),
                  strided(q),
                  strided(k),
                  strided(v),
                  {},
                  sinks ? sinks->data : nullptr,
                  op->data };
    if (mask) {
        if (mask->type != GGML_TYPE_F16 || mask->nb[0] != sizeof(ggml_fp16_t) || mask->ne[2] != 1 ||
            (mask->ne[3] != 1 && mask->ne[3] != q->ne[3])) {
            return false;
        }
        attention.mask = { mask->data, mask->nb[1], 0, mask->ne[3] == 1 ? 0 : mask->nb[3] };
    }
    return true;
}

struct attention_traits : ggml::cpu::tensor_traits {
    bool work_size(int nth, const ggml_tensor * op, size_t & size) override {
        cloister_attention attention;
        const size_t       wanted = describe(op, attention) ? cloister_kernels_attention_work_size(&attention, nth) : 0;
        if (wanted == 0) {
            return false;
        }
        size = wanted;
        return true;
    }

    bool compute_forward(ggml_compute_params * params, ggml_tensor * op) override {
        cloister_attention attention;
        const size_t       wanted =
            describe(op, attention) ? cloister_kernels_attention_work_size(&attention, params->nth) : 0;
        if (wanted == 0 || wanted > params->wsize) {
            return false;
        }
        cloister_kernels_attend(&attention, params->wdata, params->ith, params->nth, params->threadpool);
        return true;
    }
};

struct extension : ggml::cpu::extra_buffer_type {
    product_traits   products;
    attention_traits attention;

    // No weights are ever allocated in a buffer of ours: they stay where they are mapped.
    bool supports_op(ggml_backend_dev_t, const ggml_tensor *) override { return false; }

    ggml::cpu::tensor_traits * get_tensor_traits(const ggml_tensor * op) override {
        if (op->op == GGML_OP_FLASH_ATTN_EXT) {
            return &attention;
        }
        return is_product(op) ? &products : nullptr;
    }
};

const char * name(ggml_backend_buffer_type_t) {
    return "cloister-kernels";
}

}  // namespace

// To be called once, before the first model is loaded.
extern "C" void cloister_kernels_enter() {
    static extension                ours;
    static ggml_backend_buffer_type entry = {};
    ggml_backend_reg_t              cpu   = ggml_backend_cpu_reg();
    ggml_backend_dev_t              dev   = ggml_backend_reg_dev_get(cpu, 0);
    // The list that loading looks at is a copy made at the first call: made now, it lacks ours.
    auto list = (ggml_backend_dev_get_extra_bufts_t) ggml_backend_reg_get_proc_address(
        cpu, "ggml_backend_dev_get_extra_bufts");
    if (list) {
        list(dev);
    }
    entry.iface.get_name = name;
    entry.device         = dev;
    entry.context        = static_cast<ggml::cpu::extra_buffer_type *>(&ours);
    ggml_backend_cpu_get_extra_buffer_types().push_back(&entry);
}
