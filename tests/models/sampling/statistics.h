// Error rates for statistical tests: every test here is wrong with probability at most kLevel when
// the sampler is right.
#pragma once

#include <algorithm>
#include <boost/math/distributions/chi_squared.hpp>
#include <boost/math/distributions/normal.hpp>
#include <cmath>
#include <cstdint>
#include <vector>

namespace stoat::test {

inline constexpr double kLevel = 1e-6;

// Two-sided p value of a standard normal statistic.
inline double normal_p_value(double z) {
  return 2 * boost::math::cdf(boost::math::complement(boost::math::normal(), std::fabs(z)));
}

// Two-sided p value of a chi-squared statistic.
inline double chi_squared_p_value(double statistic, double degrees) {
  const boost::math::chi_squared law(degrees);
  const double above = boost::math::cdf(boost::math::complement(law, statistic));
  return 2 * std::min(above, 1 - above);
}

// Smallest of m p values, corrected (Bonferroni): reject when it is below kLevel.
inline double bonferroni(const std::vector<double>& p_values) {
  double smallest = 1;
  for (const double p : p_values) smallest = std::min(smallest, p);
  return smallest * static_cast<double>(p_values.size());
}

}  // namespace stoat::test
