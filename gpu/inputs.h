// What the command line names, turned into checked values: model folder, budgets, token files,
// layer lists.
//
// Small functions without state. Every one throws stoat::Error that says where, what was found and
// what to do.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/sampling/selection.h"

namespace stoat {

// A model folder, or the bare name of a shipped model ("needle"). Checks that config.json and
// weights are there.
std::string resolve_model_folder(const std::string& name);

// "128", or a file with one budget a line (blank lines and lines that start with '#' do not count):
// one entry, or [n_layers]. Budgets are 1 to kMaxBudget.
std::vector<std::uint32_t> resolve_budgets(const std::string& text, std::uint32_t n_layers);

// Token ids: text separated by white space, or .npy (int32 or int64, one dimension). Ids are
// checked against the vocabulary; the message names the line (text) or the index (.npy).
std::vector<std::int32_t> read_token_file(const std::string& path, std::uint32_t vocab_size);
std::vector<std::int32_t> parse_token_text(std::string_view text, const std::string& path,
                                           std::uint32_t vocab_size);
std::vector<std::int32_t> parse_npy_tokens(std::string_view bytes, const std::string& path,
                                           std::uint32_t vocab_size);

// "all", or layers separated by commas: which layers are meant. [n_layers]
std::vector<bool> parse_layers(std::string_view text, std::uint32_t n_layers);

// "dense" (budget 0) or "prop:128", as `option` of a benchmark names a method.
std::pair<Method, std::uint32_t> parse_method_and_budget(const std::string& text,
                                                         const std::string& option);

// "4,16,64": budgets, strictly increasing.
std::vector<std::uint32_t> parse_budget_list(std::string_view text);

// Refuses an output that exists (unless `force`), a spool that is in the way, a folder that is
// missing or not writable.
void ensure_output_free(const std::string& path, bool force);

// Tiles of 256 rows that a context has.
std::uint32_t tiles_of_context(std::uint32_t context_len);

}  // namespace stoat
