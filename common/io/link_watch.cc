#include "common/io/link_watch.h"

#include <algorithm>

namespace holdfast::io {

void LinkWatch::add(LinkListener& listener) { listeners_.push_back(&listener); }

void LinkWatch::remove(LinkListener& listener) {
  if (telling_) {
    std::ranges::replace(listeners_, &listener, static_cast<LinkListener*>(nullptr));
  } else {
    std::erase(listeners_, &listener);
  }
}

void LinkWatch::tell(const LinkEvent& event) {
  ASSERT(!telling_);
  telling_ = true;
  // One that is added meanwhile hears of later events only; the list may grow under this walk.
  const size_t count = listeners_.size();
  for (size_t i = 0; i < count; ++i) {
    if (listeners_[i] != nullptr) listeners_[i]->on_link(event);
  }
  telling_ = false;
  std::erase(listeners_, nullptr);
}

}  // namespace holdfast::io
