#include "mpio/unit_attention.h"

namespace holdfast::mpio {

Attention classify_attention(uint8_t asc, uint8_t ascq) {
  switch (asc) {
    case 0x28:
      return Attention::medium;
    case 0x29:
      return Attention::reset;
    case 0x2a:
      if (ascq == 0x01) return Attention::mode;
      if (ascq >= 0x03 && ascq <= 0x05) return Attention::reservations;
      if (ascq == 0x06 || ascq == 0x07) return Attention::access_state;
      if (ascq == 0x09) return Attention::capacity;
      return Attention::other;
    case 0x2f:
      return ascq == 0x00 ? Attention::cleared : Attention::other;
    case 0x38:
      return ascq == 0x07 ? Attention::thin_threshold : Attention::other;
    case 0x3f:
      return ascq == 0x0e ? Attention::units : Attention::identity;
    default:
      return Attention::other;
  }
}

AttentionTasks tasks_of(Attention attention, bool caused_by_us, bool write_cache) {
  AttentionTasks tasks;
  switch (attention) {
    case Attention::reset:
      tasks.add(AttentionTask::verify_registration);
      tasks.add(AttentionTask::ask_for_commands);
      if (!caused_by_us && write_cache) tasks.add(AttentionTask::report_cache_lost);
      break;
    case Attention::medium:
      tasks.add(AttentionTask::reprobe);
      tasks.add(AttentionTask::read_capacity);
      break;
    case Attention::mode:
      tasks.add(AttentionTask::read_mode);
      break;
    case Attention::reservations:
      tasks.add(AttentionTask::verify_registration);
      tasks.add(AttentionTask::report_preempted);
      tasks.add(AttentionTask::ask_for_commands);
      break;
    case Attention::cleared:
      tasks.add(AttentionTask::ask_for_commands);
      break;
    case Attention::access_state:
      tasks.add(AttentionTask::read_access);
      break;
    case Attention::capacity:
      tasks.add(AttentionTask::read_capacity);
      break;
    case Attention::units:
      tasks.add(AttentionTask::rescan);
      tasks.add(AttentionTask::reprobe);  // another unit may have this number now
      break;
    case Attention::identity:
      tasks.add(AttentionTask::reprobe);
      break;
    case Attention::thin_threshold:  // the target's administrator is told by the target
    case Attention::other:
      break;
  }
  return tasks;
}

bool AttentionFilter::first(Attention attention, bool caused_by_us, io::Instant now) {
  auto& seen = seen_[static_cast<size_t>(attention)][caused_by_us ? 1 : 0];
  if (seen && now - *seen < kUnitAttentionDedupe) return false;
  seen = now;
  return true;
}

}  // namespace holdfast::mpio
