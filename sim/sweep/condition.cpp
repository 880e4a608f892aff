// A recursive-descent parser and an evaluator over numbers, texts and truth values.
#include "sim/sweep/condition.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>

#include "sim/sweep/sweep_value.h"

namespace stoat::sim {

struct Condition::Node {
  enum class Kind { kNumber, kText, kKey, kNot, kAnd, kOr, kCompare, kArithmetic, kIn };
  Kind kind = Kind::kNumber;
  double number = 0;
  std::string text;  // a text, a key or an operator
  Place place;       // of a division
  std::vector<std::shared_ptr<const Node>> parts;
};

namespace {

using Node = Condition::Node;
using NodePtr = std::shared_ptr<const Node>;

struct Token {
  enum class Kind { kEnd, kNumber, kText, kWord, kSign };
  Kind kind = Kind::kEnd;
  std::string text;
  double number = 0;
  std::size_t column = 0;  // from 0
};

bool word_start(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_'; }
bool word_part(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '-';
}

class Parser {
 public:
  Parser(std::string_view text, const Place& place, const std::vector<std::string>& known)
      : text_(text), place_(place), known_(known) {
    next();
  }

  NodePtr whole() {
    NodePtr node = any_of();
    if (token_.kind != Token::Kind::kEnd) fail("'" + token_.text + "'", "an operator or the end");
    if (!is_truth(*node)) fail("a value", "a comparison, such as budget > context");
    return node;
  }

 private:
  static constexpr int kMaxDepth = 64;

  static bool is_truth(const Node& node) {
    using Kind = Node::Kind;
    return node.kind == Kind::kNot || node.kind == Kind::kAnd || node.kind == Kind::kOr ||
           node.kind == Kind::kCompare || node.kind == Kind::kIn;
  }

  [[noreturn]] void fail(const std::string& found, const std::string& expected,
                         const std::string& remedy = {}) const {
    Place at = place_;
    if (at.line != 0) at.column += token_.column;
    throw usage_error(at, "in the condition '" + std::string(text_) + "': " + found, expected,
                      remedy);
  }

  void next() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
    token_ = {};
    token_.column = at_;
    if (at_ == text_.size()) return;
    const char c = text_[at_];
    if (c == '\'' || c == '"') {
      const std::size_t end = text_.find(c, at_ + 1);
      if (end == std::string_view::npos) fail("a quote that is not closed", "its end");
      token_.kind = Token::Kind::kText;
      token_.text = text_.substr(at_ + 1, end - at_ - 1);
      at_ = end + 1;
    } else if (std::isdigit(static_cast<unsigned char>(c)) != 0) {
      read_number();
    } else if (word_start(c)) {
      std::size_t end = at_;
      while (end < text_.size() && word_part(text_[end])) ++end;
      token_.kind = Token::Kind::kWord;
      token_.text = text_.substr(at_, end - at_);
      at_ = end;
    } else {
      read_sign();
    }
  }

  void read_number() {
    token_.kind = Token::Kind::kNumber;
    const char* const begin = text_.data() + at_;
    const auto [rest, status] = std::from_chars(begin, text_.data() + text_.size(), token_.number);
    if (status != std::errc{} || !std::isfinite(token_.number)) fail("a number out of range", "");
    at_ += static_cast<std::size_t>(rest - begin);
    token_.text = std::string(begin, rest);
    std::size_t unit = at_;
    while (unit < text_.size() && text_[unit] == ' ') ++unit;
    std::size_t end = unit;
    while (end < text_.size() && word_part(text_[end])) ++end;
    const auto factor = unit_factor(text_.substr(unit, end - unit));
    if (end > unit && factor) {
      token_.number *= *factor;
      at_ = end;
    }
  }

  void read_sign() {
    for (const std::string_view sign :
         {"==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "(", ")", "[", "]", ","}) {
      if (text_.substr(at_, sign.size()) != sign) continue;
      token_.kind = Token::Kind::kSign;
      token_.text = sign;
      at_ += sign.size();
      return;
    }
    fail("'" + std::string(1, text_[at_]) + "'", "a key, a number, a quoted text or an operator");
  }

  bool take(std::string_view text) {
    const bool kind = token_.kind == Token::Kind::kSign || token_.kind == Token::Kind::kWord;
    if (!kind || token_.text != text) return false;
    next();
    return true;
  }

  static NodePtr make(Node::Kind kind, std::string text, std::vector<NodePtr> parts,
                      Place place = {}) {
    auto node = std::make_shared<Node>();
    node->kind = kind;
    node->place = std::move(place);
    node->text = std::move(text);
    node->parts = std::move(parts);
    return node;
  }

  NodePtr truth(NodePtr node) const {
    if (!is_truth(*node)) fail("a value where a comparison is due", "a comparison");
    return node;
  }

  NodePtr any_of() {
    NodePtr left = all_of();
    while (take("or"))
      left = make(Node::Kind::kOr, "or", {truth(std::move(left)), truth(all_of())});
    return left;
  }
  NodePtr all_of() {
    NodePtr left = negation();
    while (take("and"))
      left = make(Node::Kind::kAnd, "and", {truth(std::move(left)), truth(negation())});
    return left;
  }
  NodePtr negation() {
    if (++depth_ > kMaxDepth) fail("nesting deeper than 64 levels", "a simpler condition");
    NodePtr node = take("not") ? make(Node::Kind::kNot, "not", {truth(negation())}) : comparison();
    --depth_;
    return node;
  }
  NodePtr comparison() {
    NodePtr left = sum();
    if (take("in")) {
      std::vector<NodePtr> parts{std::move(left)};
      if (!take("[")) fail("'" + token_.text + "'", "[ after in");
      do {
        parts.push_back(sum());
      } while (take(","));
      if (!take("]")) fail("'" + token_.text + "'", "]");
      return make(Node::Kind::kIn, "in", std::move(parts));
    }
    for (const char* sign : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (token_.kind == Token::Kind::kSign && take(sign)) {
        return make(Node::Kind::kCompare, sign, {std::move(left), sum()});
      }
    }
    return left;
  }
  NodePtr sum() {
    NodePtr left = product();
    while (token_.kind == Token::Kind::kSign && (token_.text == "+" || token_.text == "-")) {
      const std::string sign = token_.text;
      next();
      left = make(Node::Kind::kArithmetic, sign, {std::move(left), product()});
    }
    return left;
  }
  NodePtr product() {
    NodePtr left = factor();
    while (token_.kind == Token::Kind::kSign && (token_.text == "*" || token_.text == "/")) {
      const std::string sign = token_.text;
      Place at = place_;
      if (at.line != 0) at.column += token_.column;
      next();
      left = make(Node::Kind::kArithmetic, sign, {std::move(left), factor()}, std::move(at));
    }
    return left;
  }
  NodePtr factor() {
    if (take("(")) {
      if (++depth_ > kMaxDepth) fail("nesting deeper than 64 levels", "a simpler condition");
      NodePtr node = any_of();
      --depth_;
      if (!take(")")) fail("'" + token_.text + "'", ")");
      return node;
    }
    if (take("-")) {
      if (++depth_ > kMaxDepth) fail("nesting deeper than 64 levels", "a simpler condition");
      NodePtr zero = make(Node::Kind::kNumber, "0", {});
      NodePtr node = make(Node::Kind::kArithmetic, "-", {std::move(zero), factor()});
      --depth_;
      return node;
    }
    auto node = std::make_shared<Node>();
    node->text = token_.text;
    switch (token_.kind) {
      case Token::Kind::kNumber:
        node->number = token_.number;
        break;
      case Token::Kind::kText:
        node->kind = Node::Kind::kText;
        break;
      case Token::Kind::kWord:
        if (std::find(known_.begin(), known_.end(), token_.text) == known_.end()) {
          fail("'" + token_.text + "' is no key of this sweep", "a key, or a text in quotes",
               nearest_name_hint(token_.text, known_));
        }
        node->kind = Node::Kind::kKey;
        break;
      case Token::Kind::kSign:
      case Token::Kind::kEnd:
        fail(token_.kind == Token::Kind::kEnd ? "it ends too early" : "'" + token_.text + "'",
             "a key, a number or a quoted text");
    }
    next();
    return node;
  }

  std::string_view text_;
  Place place_;
  const std::vector<std::string>& known_;
  std::size_t at_ = 0;
  Token token_;
  int depth_ = 0;
};

// A value of a point: absent, a text, and the number in it.
struct Term {
  bool present = true;
  std::string text;
  std::optional<double> number;
  bool quoted = false;
};

using ValueOf = std::function<const std::string*(const std::string&)>;

Term term_of(const Node& node, const ValueOf& value_of) {
  Term term;
  switch (node.kind) {
    case Node::Kind::kNumber:
      term.number = node.number;
      break;
    case Node::Kind::kText:
      term.text = node.text;
      term.quoted = true;
      break;
    case Node::Kind::kKey: {
      const std::string* value = value_of(node.text);
      term.present = value != nullptr;
      if (value != nullptr) {
        term.text = *value;
        term.number = number_of(*value);
      }
      break;
    }
    default: {
      const Term left = term_of(*node.parts[0], value_of);
      const Term right = term_of(*node.parts[1], value_of);
      term.present = left.present && right.present && left.number && right.number;
      if (!term.present) break;
      const double a = *left.number, b = *right.number;
      if (node.text == "/" && b == 0) {
        throw usage_error(node.place, "a condition divides by zero", "a divisor that is never 0",
                          "ask first: DIVISOR != 0 and ...");
      }
      term.number = node.text == "+"   ? a + b
                    : node.text == "-" ? a - b
                    : node.text == "*" ? a * b
                                       : a / b;
    }
  }
  return term;
}

bool compare(const std::string& sign, const Term& left, const Term& right) {
  if (!left.present || !right.present) return sign == "!=";
  if (left.number && right.number) {
    const double a = *left.number, b = *right.number;
    if (sign == "==") return a == b;
    if (sign == "!=") return a != b;
    if (sign == "<") return a < b;
    if (sign == "<=") return a <= b;
    return sign == ">" ? a > b : a >= b;
  }
  const bool texts = (left.quoted || !left.text.empty()) && (right.quoted || !right.text.empty());
  const bool equal = texts && left.text == right.text;
  if (sign == "==") return equal;
  return sign == "!=" && !equal;
}

bool evaluate(const Node& node, const ValueOf& value_of) {
  switch (node.kind) {
    case Node::Kind::kNot:
      return !evaluate(*node.parts[0], value_of);
    case Node::Kind::kAnd:
      return evaluate(*node.parts[0], value_of) && evaluate(*node.parts[1], value_of);
    case Node::Kind::kOr:
      return evaluate(*node.parts[0], value_of) || evaluate(*node.parts[1], value_of);
    case Node::Kind::kIn: {
      const Term left = term_of(*node.parts[0], value_of);
      return std::any_of(node.parts.begin() + 1, node.parts.end(), [&](const NodePtr& each) {
        return compare("==", left, term_of(*each, value_of));
      });
    }
    default:
      return compare(node.text, term_of(*node.parts[0], value_of),
                     term_of(*node.parts[1], value_of));
  }
}

}  // namespace

Condition Condition::parse(std::string_view text, const Place& place,
                           const std::vector<std::string>& known) {
  Condition condition;
  condition.text_ = text;
  condition.root_ = Parser(condition.text_, place, known).whole();
  return condition;
}

bool Condition::holds(const ValueOf& value_of) const { return evaluate(*root_, value_of); }

}  // namespace stoat::sim
