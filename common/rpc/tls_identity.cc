#include "common/rpc/tls_identity.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "common/rpc/limits.h"
#include "common/rpc/openssl_handles.h"
#include "common/rpc/tls_engine.h"

namespace holdfast::rpc {
namespace {

using Text = std::expected<std::string, std::string>;
template <class T>
using OrProblem = std::expected<T, std::string>;

constexpr std::string_view kScheme = "holdfast://";
constexpr mode_t kForbiddenKeyMode = S_IWGRP | S_IRWXO;

std::unexpected<std::string> problem(std::string text) {
  ERR_clear_error();
  return std::unexpected(std::move(text));
}

struct OpenFile {
  int fd = -1;
  ~OpenFile() {
    if (fd >= 0) ::close(fd);
  }
};

// Wiped when it goes: one of the files is the key.
struct PemText {
  std::string text;
  PemText() = default;
  PemText(PemText&& other) noexcept : text(std::exchange(other.text, {})) {}
  ~PemText() { OPENSSL_cleanse(text.data(), text.size()); }
  BioHandle reader() const {
    return BioHandle(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  }
};

OrProblem<PemText> read_pem(const std::string& file, const char* what, mode_t forbidden) {
  // No link to a FIFO may block the reader.
  const OpenFile opened{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
  if (opened.fd < 0) {
    return problem(fmt::format("cannot read the {} {}: {}", what, file, std::strerror(errno)));
  }
  struct stat info{};
  if (::fstat(opened.fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    return problem(fmt::format("the {} {} is not a regular file", what, file));
  }
  if ((info.st_mode & forbidden) != 0) {
    return problem(fmt::format("the {} {} is open to other users (mode {:04o}): chmod 600 {}", what,
                               file, info.st_mode & 07777u, file));
  }
  PemText pem;
  pem.text.resize(kMaxPemFile + 1);  // never moved, so no copy of a key is left behind
  size_t filled = 0;
  while (filled < pem.text.size()) {
    const ssize_t got = ::read(opened.fd, pem.text.data() + filled, pem.text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return problem(fmt::format("cannot read the {} {}: {}", what, file, std::strerror(errno)));
    }
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  if (filled > kMaxPemFile) {
    return problem(fmt::format("the {} {} is longer than {} bytes", what, file, kMaxPemFile));
  }
  pem.text.resize(filled);
  return pem;
}

// An encrypted key is an error, and no question to a terminal.
int no_passphrase(char*, int, int, void*) { return -1; }

OrProblem<std::vector<CertificateHandle>> read_certificates(const std::string& file,
                                                            const char* what) {
  auto pem = read_pem(file, what, 0);
  if (!pem.has_value()) return problem(std::move(pem.error()));
  const BioHandle in = pem->reader();
  std::vector<CertificateHandle> found;
  for (;;) {
    CertificateHandle next(PEM_read_bio_X509(in.get(), nullptr, &no_passphrase, nullptr));
    if (next == nullptr) break;
    found.push_back(std::move(next));
  }
  // The loop ends with an error in any case; the good one is that no further block begins.
  if (found.empty() || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
    return problem(
        fmt::format("the {} {} holds no certificate in PEM, or a broken one", what, file));
  }
  ERR_clear_error();
  return found;
}

std::string time_text(const ASN1_TIME* time) {
  const BioHandle out(BIO_new(BIO_s_mem()));
  char text[64] = {};
  if (ASN1_TIME_print(out.get(), time) != 1) return "?";
  const int length = BIO_read(out.get(), text, sizeof(text) - 1);
  return {text, static_cast<size_t>(std::max(length, 0))};
}

// Empty: it is valid now.
std::string time_problem(const X509& certificate) {
  if (X509_cmp_current_time(X509_get0_notBefore(&certificate)) > 0) {
    return fmt::format("is not valid before {}: is this host's clock right?",
                       time_text(X509_get0_notBefore(&certificate)));
  }
  if (X509_cmp_current_time(X509_get0_notAfter(&certificate)) < 0) {
    return fmt::format("has expired: {}", time_text(X509_get0_notAfter(&certificate)));
  }
  return {};
}

std::string issuer_problem(X509_STORE* store, std::vector<CertificateHandle>& chain) {
  const StoreContextHandle check(X509_STORE_CTX_new());
  STACK_OF(X509)* const between = sk_X509_new_null();
  for (size_t i = 1; i < chain.size(); ++i) sk_X509_push(between, chain[i].get());
  std::string found;
  // As both the client and the server of a connection it will be looked at.
  for (const char* side : {"ssl_client", "ssl_server"}) {
    if (X509_STORE_CTX_init(check.get(), store, chain[0].get(), between) != 1 ||
        X509_STORE_CTX_set_default(check.get(), side) != 1) {
      found = "cannot be checked";
    } else if (X509_verify_cert(check.get()) != 1) {
      found = X509_verify_cert_error_string(X509_STORE_CTX_get_error(check.get()));
    }
    X509_STORE_CTX_cleanup(check.get());
    if (!found.empty()) break;
  }
  sk_X509_free(between);
  return found;
}

OrProblem<StoreHandle> load_ca(const std::string& file) {
  auto read = read_certificates(file, "CA file");
  if (!read.has_value()) return problem(std::move(read.error()));
  StoreHandle store(X509_STORE_new());
  for (const CertificateHandle& ca : *read) {
    if (X509_check_ca(ca.get()) != 1) {
      return problem(fmt::format("the CA file {} holds a certificate that is not a CA's", file));
    }
    X509_STORE_add_cert(store.get(), ca.get());
  }
  // The CA of the cluster may be one that a CA of the company has signed.
  X509_STORE_set_flags(store.get(), X509_V_FLAG_PARTIAL_CHAIN);
  return store;
}

OrProblem<KeyHandle> load_key(const TlsContext::Files& files, const X509& certificate) {
  auto pem = read_pem(files.key, "key file", kForbiddenKeyMode);
  if (!pem.has_value()) return problem(std::move(pem.error()));
  KeyHandle key(PEM_read_bio_PrivateKey(pem->reader().get(), nullptr, &no_passphrase, nullptr));
  if (key == nullptr) {
    return problem(fmt::format(
        "the key file {} holds no private key in PEM (one with a passphrase cannot be used)",
        files.key));
  }
  if (X509_check_private_key(&certificate, key.get()) != 1) {
    return problem(fmt::format("the key in {} does not belong to the certificate in {}", files.key,
                               files.certificate));
  }
  return key;
}

// Empty: the certificate is this node's.
std::string name_problem(const X509& certificate, const NodeIdentity& expected,
                         const std::string& file) {
  const std::optional<NodeIdentity> found = identity_of(certificate);
  if (!found.has_value()) {
    return fmt::format(
        "the certificate {} does not name a node: it needs exactly one subjectAltName URI:{}", file,
        node_uri(expected));
  }
  if (*found == expected) return {};
  return fmt::format("the certificate {} is that of {}, and this node is {}", file,
                     node_uri(*found), node_uri(expected));
}

bool use(SSL_CTX* ssl, StoreHandle store, std::vector<CertificateHandle>& chain, EVP_PKEY* key) {
  if (SSL_CTX_use_certificate(ssl, chain[0].get()) != 1) return false;
  if (SSL_CTX_use_PrivateKey(ssl, key) != 1) return false;
  for (size_t i = 1; i < chain.size(); ++i) {
    if (SSL_CTX_add1_chain_cert(ssl, chain[i].get()) != 1) return false;
  }
  SSL_CTX_set_cert_store(ssl, store.release());
  return true;
}

}  // namespace

bool is_name(std::string_view name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
  };
  return !name.empty() && name.size() <= kMaxName && std::ranges::all_of(name, fits);
}

std::optional<NodeIdentity> parse_node_uri(std::string_view uri) {
  if (!uri.starts_with(kScheme)) return std::nullopt;
  uri.remove_prefix(kScheme.size());
  const size_t slash = uri.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const std::string_view cluster = uri.substr(0, slash);
  const std::string_view node = uri.substr(slash + 1);
  if (!is_name(cluster) || !is_name(node)) return std::nullopt;
  return NodeIdentity{std::string(cluster), std::string(node)};
}

std::string node_uri(const NodeIdentity& identity) {
  return fmt::format("{}{}/{}", kScheme, identity.cluster, identity.node);
}

std::optional<NodeIdentity> identity_of(const X509& certificate) {
  const NamesHandle names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr)));
  ERR_clear_error();
  if (names == nullptr) return std::nullopt;
  std::optional<NodeIdentity> found;
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    const ASN1_IA5STRING* const value = name->d.uniformResourceIdentifier;
    const auto* const data = reinterpret_cast<const char*>(ASN1_STRING_get0_data(value));
    const std::string_view uri(data, static_cast<size_t>(ASN1_STRING_length(value)));
    if (!uri.starts_with(kScheme)) continue;
    if (found.has_value()) return std::nullopt;
    found = parse_node_uri(uri);
    if (!found.has_value()) return std::nullopt;
  }
  return found;
}

TlsContext::TlsContext(ssl_ctx_st* ssl, NodeIdentity identity, std::string valid_until)
    : ssl_(ssl), identity_(std::move(identity)), valid_until_(std::move(valid_until)) {}

TlsContext::~TlsContext() { SSL_CTX_free(ssl_); }

std::expected<std::shared_ptr<const TlsContext>, std::string> TlsContext::load(
    const Files& files, const NodeIdentity& expected) {
  if (!is_name(expected.cluster) || !is_name(expected.node)) {
    return problem(fmt::format(
        "the names of cluster and node, '{}' and '{}', must be of letters, digits, '.', '-' and "
        "'_', at most {}",
        expected.cluster, expected.node, kMaxName));
  }
  auto store = load_ca(files.ca);
  if (!store.has_value()) return problem(std::move(store.error()));
  auto chain = read_certificates(files.certificate, "certificate");
  if (!chain.has_value()) return problem(std::move(chain.error()));
  const X509& own = *chain->front();
  if (const std::string wrong = time_problem(own); !wrong.empty()) {
    return problem(fmt::format("the certificate {} {}", files.certificate, wrong));
  }
  if (const std::string wrong = issuer_problem(store->get(), *chain); !wrong.empty()) {
    return problem(fmt::format("the certificate {} is not one that the CA of {} vouches for: {}",
                               files.certificate, files.ca, wrong));
  }
  if (std::string wrong = name_problem(own, expected, files.certificate); !wrong.empty()) {
    return problem(std::move(wrong));
  }
  auto key = load_key(files, own);
  if (!key.has_value()) return problem(std::move(key.error()));
  SslContextHandle ssl(make_ssl_context());
  if (ssl == nullptr || !use(ssl.get(), std::move(*store), *chain, key->get())) {
    return problem(fmt::format("OpenSSL does not take the certificate {}: a key that is too short?",
                               files.certificate));
  }
  return std::shared_ptr<const TlsContext>(
      new TlsContext(ssl.release(), expected, time_text(X509_get0_notAfter(&own))));
}

}  // namespace holdfast::rpc
