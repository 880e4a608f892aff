// Where the records of a point come from: rows that were recorded, scores drawn again for another
// method or budget, or a synthetic trace, possibly fitted to what was recorded at other contexts.
//
// Also how far the drawn rows are from exact attention, from the same integers the draw was made
// of.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sim/datapath/catalog.h"
#include "sim/sweep/sweep_spec.h"
#include "traces/synth.h"
#include "traces/trace.h"

namespace stoat::sim {

enum class SourceKind : std::uint8_t { kAccess, kRedrawn, kSynth, kSynthFit };
std::string_view source_name(SourceKind kind);  // access redrawn synth synth_fit

// A recorded trace in memory, so that forked points share its pages.
struct LoadedTrace {
  std::string path, hash;
  TraceHeader header;
  TraceRecords records;
  std::vector<std::size_t> step_begin;      // [steps + 1] first record of each distinct step
  std::vector<std::uint32_t> step_context;  // [steps] of the longest sequence
  bool scores_everywhere = false;
};

struct SynthFit;  // synth_fit.h

class TraceLibrary {
 public:
  TraceLibrary();
  TraceLibrary(const TraceLibrary&) = delete;
  TraceLibrary& operator=(const TraceLibrary&) = delete;
  ~TraceLibrary();
  // Reads a file once. Throws Error.
  const LoadedTrace& open(const std::string& path);
  // What stands for contexts that were not recorded; found once.
  const SynthFit& fit(const LoadedTrace& trace);

 private:
  std::map<std::string, std::unique_ptr<LoadedTrace>> traces_;
  std::map<std::string, std::unique_ptr<SynthFit>> fits_;
};

struct PointSource {
  SourceKind kind = SourceKind::kSynth;
  const LoadedTrace* trace = nullptr;
  SynthOptions synth;                // kSynth, kSynthFit
  std::vector<std::uint32_t> steps;  // indices into the trace's steps
  std::uint32_t layers = 0;          // the first ones
  Method method = Method::kDense;    // of what is simulated
  std::uint32_t budget = 0;
  std::uint64_t seed = 0;
  TraceHeader header;  // of what is simulated
  std::uint32_t model_layers = 0;
  std::string text;  // canonical: equal texts, equal records
  std::string fit;   // kSynthFit: what was taken from the trace, for people
};

using KeyLookup = std::function<const std::string*(const std::string& key)>;

// What a point's keys ask for. Throws Error when they do not make sense together.
PointSource plan_source(const KeyLookup& value, const Datapath& datapath, const SweepSpec& spec,
                        TraceLibrary& library);

// Against the softmax of the same scores, were value rows independent of each other: per record
// e^2 = sum (w_i - p_i)^2 / sum p_i^2, w the weights of the estimate. The mean over records.
struct DrawError {
  std::uint64_t records = 0;  // 0 = not known
  double mean_square = 0, standard_error = 0;
  std::string kind;  // independent_values, recorded, exact, or empty
};

struct PointRecords {
  std::vector<TraceRecords> steps;
  std::uint32_t context_max = 0, sequences = 1;
  DrawError error;
  double participation = 0;  // mean of 1 / sum p^2; 0 = not known
};
PointRecords make_records(const PointSource& source);

}  // namespace stoat::sim
