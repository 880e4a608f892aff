// The small language of `skip_when`: comparisons of a point's keys.
//
//   budget > context                     datapath == 'mac' and budget != 128
//   engine.stash >= 64 KiB               not (method in ['sys', 'prop'])
//   context * batch > 262144             or, and, not, == != < <= > >= in + - * / ( )
// Texts stand in quotes; words without quotes are keys. A number may have a unit. A comparison with
// a key that the point does not have is false (with != true). `and` and `or` stop where the answer
// is known; a division by zero is an error.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "models/error.h"

namespace stoat::sim {

class Condition {
 public:
  // `known`: the keys it may name. Throws Error (usage) with the column inside the text.
  static Condition parse(std::string_view text, const Place& place,
                         const std::vector<std::string>& known);
  // `value_of` gives a key's text, null when the point has none. Throws Error (usage) for a
  // division by zero.
  bool holds(const std::function<const std::string*(const std::string&)>& value_of) const;
  const std::string& text() const { return text_; }

  struct Node;

 private:
  std::string text_;
  std::shared_ptr<const Node> root_;
};

}  // namespace stoat::sim
