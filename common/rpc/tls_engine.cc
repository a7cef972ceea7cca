#include "common/rpc/tls_engine.h"

#include <openssl/err.h>

#include <array>
#include <utility>

#include "common/rpc/limits.h"
#include "common/rpc/openssl_handles.h"

namespace holdfast::rpc {
namespace {

TlsFailure of_certificate(int error) {
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return TlsFailure::expired;
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return TlsFailure::not_yet_valid;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_UNTRUSTED:
    // A CA of the same name with another key.
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_AKID_SKID_MISMATCH:
      return TlsFailure::other_ca;
    default:
      return TlsFailure::bad_certificate;
  }
}

TlsFailure of_library_error(unsigned long error) {
  if (ERR_GET_LIB(error) != ERR_LIB_SSL) return TlsFailure::broken;
  switch (ERR_GET_REASON(error)) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return TlsFailure::no_certificate;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
    case SSL_R_WRONG_SSL_VERSION:
      return TlsFailure::old_version;
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_UNKNOWN_PROTOCOL:
    case SSL_R_BAD_RECORD_TYPE:
    case SSL_R_RECORD_TOO_SMALL:
      return TlsFailure::not_tls;
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
      return TlsFailure::refused_missing;
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
      return TlsFailure::refused_expired;
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
      return TlsFailure::refused_ca;
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
      return TlsFailure::refused_name;
    default:
      // An alert that the peer sent: its number is in the reason.
      return ERR_GET_REASON(error) > SSL_AD_REASON_OFFSET ? TlsFailure::refused
                                                          : TlsFailure::broken;
  }
}

}  // namespace

const char* to_string(TlsFailure failure) noexcept {
  switch (failure) {
    case TlsFailure::none:
      return "";
    case TlsFailure::no_certificate:
      return "the peer showed no certificate";
    case TlsFailure::expired:
      return "the peer's certificate has expired";
    case TlsFailure::not_yet_valid:
      return "the peer's certificate is not valid yet: a clock is wrong, here or there";
    case TlsFailure::other_ca:
      return "the peer's certificate is not of the CA of this cluster";
    case TlsFailure::no_node_name:
      return "the peer's certificate does not name a node";
    case TlsFailure::wrong_cluster:
      return "the peer is a node of another cluster";
    case TlsFailure::wrong_node:
      return "another node than the wanted one answers at this address";
    case TlsFailure::bad_certificate:
      return "the peer's certificate cannot be used for this";
    case TlsFailure::not_tls:
      return "the peer does not speak TLS";
    case TlsFailure::old_version:
      return "the peer does not speak TLS 1.3";
    case TlsFailure::broken:
      return "what the peer sent is not right TLS";
    case TlsFailure::too_much_output:
      return "the peer makes TLS answer more than it reads";
    case TlsFailure::refused_missing:
      return "the peer refused this node: it saw no certificate";
    case TlsFailure::refused_expired:
      return "the peer refused this node: it says that our certificate has expired";
    case TlsFailure::refused_ca:
      return "the peer refused this node: it does not know the CA of our certificate";
    case TlsFailure::refused_name:
      return "the peer refused this node: our certificate names the wrong cluster or node";
    case TlsFailure::refused:
      return "the peer refused this node during the handshake";
  }
  return "";
}

// OpenSSL's callback, with its C signature.
struct TlsCallbacks {
  static int verify(X509_STORE_CTX* chain, void*) {
    const auto* const ssl = static_cast<const SSL*>(
        X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
    auto* const engine = static_cast<TlsEngine*>(SSL_get_ex_data(ssl, 0));
    return engine->verify(chain) ? 1 : 0;
  }
};

ssl_ctx_st* make_ssl_context() {
  SslContextHandle context(SSL_CTX_new(TLS_method()));
  if (context == nullptr) return nullptr;
  SSL_CTX* const ssl = context.get();
  if (SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) != 1) return nullptr;
  if (SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) != 1) return nullptr;
  SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
  if (SSL_CTX_set_num_tickets(ssl, 0) != 1) return nullptr;
  if (SSL_CTX_set_max_early_data(ssl, 0) != 1) return nullptr;
  SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_max_cert_list(ssl, kMaxCertificateChain);
  SSL_CTX_set_verify_depth(ssl, kMaxChainDepth);
  SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_cert_verify_callback(ssl, &TlsCallbacks::verify, nullptr);
  return context.release();
}

TlsEngine::TlsEngine(std::shared_ptr<const TlsContext> context, Side side, std::string wanted_node)
    : context_(std::move(context)), side_(side), wanted_node_(std::move(wanted_node)) {
  ASSERT(side_ == Side::server || !wanted_node_.empty());
  ssl_ = SSL_new(context_->ssl());
  ASSERT(ssl_ != nullptr);  // out of memory
  BIO* const in = BIO_new(BIO_s_mem());
  BIO* const out = BIO_new(BIO_s_mem());
  ASSERT(in != nullptr && out != nullptr);
  SSL_set_bio(ssl_, in, out);
  SSL_set_ex_data(ssl_, 0, this);
  if (side_ == Side::client) {
    SSL_set_connect_state(ssl_);
  } else {
    SSL_set_accept_state(ssl_);
  }
}

TlsEngine::~TlsEngine() { SSL_free(ssl_); }

bool TlsEngine::receive(base::Bytes input, std::vector<uint8_t>& plain) {
  ASSERT(input.size() <= kReceiveBytes);
  if (failure_ != TlsFailure::none) return false;
  if (peer_closed_) return true;  // whatever follows its last word counts for nothing
  // All of it is consumed below, or the connection ends: the BIO holds no more than this.
  if (!input.empty()) {
    const int written = BIO_write(SSL_get_rbio(ssl_), input.data(), static_cast<int>(input.size()));
    ASSERT(written == static_cast<int>(input.size()));
  }
  if (!established_ && !handshake()) return false;
  if (established_ && !read(plain)) return false;
  return drain_output(kMaxTlsOutput);
}

bool TlsEngine::handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_);
  if (result == 1) {
    established_ = true;
    return true;
  }
  return SSL_get_error(ssl_, result) == SSL_ERROR_WANT_READ || fail(result);
}

bool TlsEngine::read(std::vector<uint8_t>& plain) {
  std::array<uint8_t, kReceiveBytes> buffer;
  while (!peer_closed_) {
    ERR_clear_error();
    const int result = SSL_read(ssl_, buffer.data(), static_cast<int>(buffer.size()));
    if (result > 0) {
      plain.insert(plain.end(), buffer.begin(), buffer.begin() + result);
      continue;
    }
    const int error = SSL_get_error(ssl_, result);
    if (error == SSL_ERROR_WANT_READ) return true;
    if (error != SSL_ERROR_ZERO_RETURN) return fail(result);
    peer_closed_ = true;
  }
  return true;
}

bool TlsEngine::send(base::Bytes plain) {
  ASSERT(established_ && !plain.empty());
  if (failure_ != TlsFailure::none) return false;
  ERR_clear_error();
  // A memory BIO takes everything, so it is whole or it failed.
  const int result = SSL_write(ssl_, plain.data(), static_cast<int>(plain.size()));
  if (result != static_cast<int>(plain.size())) return fail(result);
  return drain_output(SIZE_MAX);
}

void TlsEngine::close() {
  if (!established_ || failure_ != TlsFailure::none) return;
  ERR_clear_error();
  SSL_shutdown(ssl_);
  ERR_clear_error();
  drain_output(SIZE_MAX);
}

bool TlsEngine::fail(int result) {
  const unsigned long error = ERR_peek_error();
  const int kind = SSL_get_error(ssl_, result);
  if (certificate_failure_ != TlsFailure::none) {
    failure_ = certificate_failure_;
  } else {
    failure_ = kind == SSL_ERROR_SSL ? of_library_error(error) : TlsFailure::broken;
  }
  ERR_clear_error();
  drain_output(SIZE_MAX);
  return false;
}

// What OpenSSL has written; of its own will only within the limit.
bool TlsEngine::drain_output(size_t limit) {
  BIO* const out = SSL_get_wbio(ssl_);
  const size_t pending = BIO_ctrl_pending(out);
  if (pending == 0) return true;
  const size_t before = output_.size();
  if (before + pending > limit) {
    failure_ = TlsFailure::too_much_output;
    return false;
  }
  output_.resize(before + pending);
  const int got = BIO_read(out, output_.data() + before, static_cast<int>(pending));
  ASSERT(got == static_cast<int>(pending));
  return true;
}

// Within the handshake, so that a peer that is not wanted is told by an alert.
bool TlsEngine::verify(X509_STORE_CTX* chain) {
  if (X509_verify_cert(chain) != 1) {
    certificate_failure_ = of_certificate(X509_STORE_CTX_get_error(chain));
    return false;
  }
  certificate_failure_ = check_name(*X509_STORE_CTX_get0_cert(chain));
  if (certificate_failure_ == TlsFailure::none) return true;
  X509_STORE_CTX_set_error(chain, X509_V_ERR_HOSTNAME_MISMATCH);  // alert: bad_certificate
  return false;
}

TlsFailure TlsEngine::check_name(const X509& certificate) {
  std::optional<NodeIdentity> named = identity_of(certificate);
  if (!named.has_value()) return TlsFailure::no_node_name;
  if (named->cluster != context_->identity().cluster) return TlsFailure::wrong_cluster;
  if (!wanted_node_.empty() && named->node != wanted_node_) return TlsFailure::wrong_node;
  peer_ = std::move(*named);
  return TlsFailure::none;
}

}  // namespace holdfast::rpc
