// Every point of a sweep as typed values, before anything runs: what it reads, what reads it, its
// key, or why it is left out.
//
// sim_key = hash of everything that decides the counts: design without prices, DRAM table,
// datapath, records (content hash of a trace, or the options of a synthetic one, seed included) and
// the build. Two points with one key are simulated once. Prices come afterwards.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/dram/standard.h"
#include "models/energy/price_list.h"
#include "sim/design_point.h"
#include "sim/sweep/point_source.h"
#include "sim/sweep/sweep_spec.h"

namespace stoat::sim {

struct PlannedPoint {
  enum class State : std::uint8_t { kRun, kSkipped, kInvalid };
  std::uint32_t index = 0;  // in the order of the grid
  State state = State::kRun;
  std::string reason;  // of a point that is skipped or invalid
  std::vector<std::uint32_t> choice;
  const DesignPoint* design = nullptr;
  const DramStandard* dram = nullptr;
  const PriceList* prices = nullptr;
  const Datapath* datapath = nullptr;
  const PointSource* source = nullptr;
  std::string sim_key;  // 32 hex digits
  std::string id;       // 16 hex digits: the same without the build, with the price list
};

class SweepPlan {
 public:
  // Throws Error for a sweep that makes no sense as a whole; a point that makes none is kInvalid.
  explicit SweepPlan(SweepSpec spec, std::shared_ptr<TraceLibrary> library = {});
  SweepPlan(const SweepPlan&) = delete;
  SweepPlan& operator=(const SweepPlan&) = delete;

  const SweepSpec& spec() const { return spec_; }
  const std::vector<PlannedPoint>& points() const { return points_; }
  const std::vector<std::string>& columns() const { return columns_; }  // axes, then other keys
  // Cell of a column; empty where the point does not set it.
  std::string cell(const PlannedPoint& point, std::size_t column) const;
  // The first point of each sim_key, in order.
  const std::vector<std::uint32_t>& simulations() const { return simulations_; }
  std::size_t count(PlannedPoint::State state) const;

 private:
  bool skips(const SkipRule& rule, const PlannedPoint& point, const KeyLookup& value) const;
  void plan_point(PlannedPoint& point);
  KeyLookup lookup(const PlannedPoint& point) const;
  const DesignPoint& design(const PlannedPoint& point, const KeyLookup& value);
  const std::string* find(const PlannedPoint& point, const std::string& name) const;

  template <class T>
  struct Made {  // a value or the message that it is not one
    std::unique_ptr<T> value;
    std::string error;
  };
  template <class T, class Make>
  const T& once(std::map<std::string, Made<T>>& made, const std::string& key, Make make);

  SweepSpec spec_;
  std::shared_ptr<TraceLibrary> library_;
  std::vector<PlannedPoint> points_;
  std::vector<std::string> columns_;
  std::vector<std::uint32_t> simulations_;
  std::map<std::string, int> slot_;  // key -> place in a point's values
  mutable std::vector<const std::string*> values_;
  std::map<std::string, Made<DesignPoint>> bases_, designs_;
  std::map<std::string, Made<DramStandard>> drams_;
  std::map<std::string, Made<PriceList>> prices_;
  std::map<std::string, Made<PointSource>> sources_;
};

// Which build this is, as far as results are concerned: the build id, and for a checkout that was
// changed since its commit the program's own hash too.
const std::string& result_build();

}  // namespace stoat::sim
