// What llama.cpp makes of a GGUF file, through its C interface.
//
//   llama_cpp BACKENDS MODEL.gguf logits OUT ID… [/ ID…]   [T, V] float32 for the ids; behind the slash those of a decoder
//   llama_cpp BACKENDS MODEL.gguf states OUT ID…           [T, D] float32, what an encoder's last layer gives
//   llama_cpp BACKENDS MODEL.gguf scores OUT ID…           [C] float32, of a classifier of texts
//   llama_cpp BACKENDS MODEL.gguf tokens OUT FILE…         for each file's text a line of token ids
//
// BACKENDS is the folder of llama.cpp's libraries. Computes with one thread in float32.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "ggml-backend.h"
#include "llama.h"

namespace {

using Ids = std::vector<llama_token>;

constexpr int kLength = 512;

void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

/** One sequence of which every place is an output. */
llama_batch batchOf(const Ids& ids) {
  llama_batch batch = llama_batch_init(static_cast<int32_t>(ids.size()), 0, 1);
  batch.n_tokens = static_cast<int32_t>(ids.size());
  for (int32_t i = 0; i < batch.n_tokens; i++) {
    batch.token[i] = ids[i];
    batch.pos[i] = i;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = 1;
  }
  return batch;
}

llama_context* contextOf(llama_model* model, const std::string& command) {
  llama_context_params params = llama_context_default_params();
  params.n_ctx = params.n_batch = params.n_ubatch = kLength;
  params.n_threads = params.n_threads_batch = 1;
  params.type_k = params.type_v = GGML_TYPE_F32;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  params.embeddings = command != "logits";
  params.pooling_type = command == "scores" ? LLAMA_POOLING_TYPE_RANK : LLAMA_POOLING_TYPE_NONE;
  llama_context* context = llama_init_from_model(model, params);
  require(context != nullptr, "no context");
  return context;
}

void compute(llama_model* model, const std::string& command, std::ofstream& out, const Ids& ids, const Ids& answer) {
  llama_context* context = contextOf(model, command);
  const bool encodes = llama_model_has_encoder(model);
  llama_batch batch = batchOf(ids);
  require((encodes ? llama_encode : llama_decode)(context, batch) == 0, "no pass");
  if (!answer.empty()) {
    batch = batchOf(answer);
    require(llama_decode(context, batch) == 0, "no decoder's pass");
  }
  const auto write = [&](const float* row, int32_t width) {
    require(row != nullptr, "no output");
    out.write(reinterpret_cast<const char*>(row), width * static_cast<std::streamsize>(sizeof(float)));
  };
  if (command == "scores") return write(llama_get_embeddings_seq(context, 0), llama_model_n_cls_out(model));
  for (int32_t i = 0; i < batch.n_tokens; i++)
    if (command == "states") write(llama_get_embeddings_ith(context, i), llama_model_n_embd(model));
    else write(llama_get_logits_ith(context, i), llama_vocab_n_tokens(llama_model_get_vocab(model)));
}

void tokenize(const llama_vocab* vocab, std::ofstream& out, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  Ids ids(text.size() + 16);
  const int32_t count = llama_tokenize(vocab, text.data(), static_cast<int32_t>(text.size()), ids.data(),
                                       static_cast<int32_t>(ids.size()), /*add_special=*/true, /*parse_special=*/true);
  require(count >= 0, "more tokens than bytes");
  for (int32_t i = 0; i < count; i++) out << (i > 0 ? " " : "") << ids[i];
  out << "\n";
}

void run(const std::vector<std::string>& args) {
  require(args.size() >= 5, "too few arguments");
  const std::string& command = args[2];
  ggml_backend_load_all_from_path(args[0].c_str());
  llama_backend_init();
  llama_model_params params = llama_model_default_params();
  params.n_gpu_layers = 0;
  params.vocab_only = command == "tokens";
  llama_model* model = llama_model_load_from_file(args[1].c_str(), params);
  require(model != nullptr, "no model");
  std::ofstream out(args[3], std::ios::binary);
  if (command == "tokens") {
    for (size_t i = 4; i < args.size(); i++) tokenize(llama_model_get_vocab(model), out, args[i]);
    return;
  }
  Ids ids, answer;
  bool behind = false;
  for (size_t i = 4; i < args.size(); i++)
    if (args[i] == "/") behind = true;
    else (behind ? answer : ids).push_back(std::atoi(args[i].c_str()));
  compute(model, command, out, ids, answer);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run({argv + 1, argv + argc});
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "llama_cpp: %s\n", error.what());
    return 1;
  }
}
