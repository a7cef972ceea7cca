#pragma once
// One side of one TLS connection, bytes in and bytes out. Pure: no descriptor, no deadline; only
// the validity of certificates looks at the real clock, and keys come from OpenSSL's generator.
//
// TLS 1.3 only. Both sides show a certificate that the CA of their cluster vouches for, and that
// names a node of the same cluster. No sessions are resumed, no early data.

#include <memory>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/rpc/tls_identity.h"

struct ssl_st;
struct x509_store_ctx_st;

namespace holdfast::rpc {

enum class TlsFailure : uint8_t {
  none = 0,
  // What the peer showed.
  no_certificate,
  expired,
  not_yet_valid,
  other_ca,
  no_node_name,
  wrong_cluster,
  wrong_node,
  bad_certificate,
  // What it spoke.
  not_tls,
  old_version,
  broken,
  too_much_output,
  // What it said of us.
  refused_missing,
  refused_expired,
  refused_ca,
  refused_name,
  refused,
};
const char* to_string(TlsFailure failure) noexcept;

class TlsEngine {
 public:
  enum class Side : uint8_t { client, server };

  // wanted_node: the only one that will do; a server lets it empty and asks peer().
  TlsEngine(std::shared_ptr<const TlsContext> context, Side side, std::string wanted_node);
  TlsEngine(const TlsEngine&) = delete;
  TlsEngine& operator=(const TlsEngine&) = delete;
  ~TlsEngine();

  // What the peer sent, at most kReceiveBytes; a client begins with nothing. What it said is
  // appended to `plain`, no more than was given and one record. False: failure() says why, and
  // output() may hold an alert for the peer. A client is established before the server has looked
  // at its certificate: a refusal comes later, by receive().
  bool receive(base::Bytes input, std::vector<uint8_t>& plain);
  // Encrypts the whole. Precondition: established(). False as above.
  bool send(base::Bytes plain);
  // Tells the peer that nothing more comes. After a failure, or before the handshake, does nothing.
  void close();

  bool established() const { return established_; }
  // The peer has said that nothing more comes.
  bool peer_closed() const { return peer_closed_; }
  TlsFailure failure() const { return failure_; }
  // Once established.
  const NodeIdentity& peer() const { return peer_; }

  // For the peer; the caller takes it away (swap with an empty one).
  std::vector<uint8_t>& output() { return output_; }

 private:
  friend struct TlsCallbacks;
  bool handshake();
  bool read(std::vector<uint8_t>& plain);
  bool fail(int result);
  bool drain_output(size_t limit);
  bool verify(x509_store_ctx_st* chain);
  TlsFailure check_name(const x509_st& certificate);

  std::shared_ptr<const TlsContext> context_;
  const Side side_;
  const std::string wanted_node_;
  ssl_st* ssl_ = nullptr;
  bool established_ = false;
  bool peer_closed_ = false;
  TlsFailure failure_ = TlsFailure::none;
  TlsFailure certificate_failure_ = TlsFailure::none;
  NodeIdentity peer_;
  std::vector<uint8_t> output_;
};

// An SSL_CTX with the rules above, without certificates. Null: OpenSSL cannot. For TlsContext.
ssl_ctx_st* make_ssl_context();

}  // namespace holdfast::rpc
