#pragma once
// A set of nodes, as one word: what heartbeats, decisions and the arbitration speak of.

#include <bit>
#include <cstdint>

#include "common/base/assert.h"
#include "qdisk/limits.h"

namespace holdfast::qdisk {

using NodeId = uint8_t;  // 0 .. kMaxNodes - 1
inline constexpr NodeId kNoNode = 0xff;

class NodeSet {
 public:
  constexpr NodeSet() = default;
  constexpr explicit NodeSet(uint64_t bits) : bits_(bits) {}
  static constexpr NodeSet of(NodeId node) { return NodeSet(bit(node)); }

  constexpr uint64_t bits() const { return bits_; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr int count() const { return std::popcount(bits_); }
  constexpr bool has(NodeId node) const { return node < kMaxNodes && (bits_ & bit(node)) != 0; }
  constexpr void add(NodeId node) { bits_ |= bit(node); }
  constexpr void remove(NodeId node) { bits_ &= ~bit(node); }
  constexpr bool contains(NodeSet other) const { return (other.bits_ & ~bits_) == 0; }
  // Precondition: not empty.
  constexpr NodeId lowest() const { return static_cast<NodeId>(std::countr_zero(bits_)); }

  constexpr NodeSet operator|(NodeSet other) const { return NodeSet(bits_ | other.bits_); }
  constexpr NodeSet operator&(NodeSet other) const { return NodeSet(bits_ & other.bits_); }
  constexpr NodeSet operator-(NodeSet other) const { return NodeSet(bits_ & ~other.bits_); }
  constexpr bool operator==(const NodeSet&) const = default;

  // for (NodeId node : set), in ascending order.
  class Iterator {
   public:
    constexpr explicit Iterator(uint64_t left) : left_(left) {}
    constexpr NodeId operator*() const { return static_cast<NodeId>(std::countr_zero(left_)); }
    constexpr Iterator& operator++() {
      left_ &= left_ - 1;
      return *this;
    }
    constexpr bool operator!=(const Iterator& other) const { return left_ != other.left_; }

   private:
    uint64_t left_;
  };
  constexpr Iterator begin() const { return Iterator(bits_); }
  constexpr Iterator end() const { return Iterator(0); }

 private:
  static constexpr uint64_t bit(NodeId node) {
    ASSERT(node < kMaxNodes);
    return uint64_t{1} << node;
  }
  uint64_t bits_ = 0;
};

}  // namespace holdfast::qdisk
