#pragma once
// Who a node is: its certificate and key, and the CA of its cluster. The name is in the
// certificate: a URI `holdfast://CLUSTER/NODE` among its alternative names. docs/rpc.md.

#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct ssl_ctx_st;
struct x509_st;

namespace holdfast::rpc {

struct NodeIdentity {
  std::string cluster;
  std::string node;
  bool operator==(const NodeIdentity&) const = default;
};

// Letters, digits, '.', '-' and '_', 1 to kMaxName of them.
bool is_name(std::string_view name);
std::optional<NodeIdentity> parse_node_uri(std::string_view uri);
std::string node_uri(const NodeIdentity& identity);
// Nothing: the certificate has no such URI, or several.
std::optional<NodeIdentity> identity_of(const x509_st& certificate);

// What TLS needs on both sides of a connection. Immutable, so connections share it across threads;
// one that is under way keeps the one it began with.
class TlsContext {
 public:
  struct Files {
    std::string ca;           // PEM: one CA of the cluster, or several while it changes
    std::string certificate;  // PEM: the node's, then those between it and the CA
    std::string key;          // PEM, without a passphrase; not open to other users
  };

  // Reads files, so it belongs to a start or to a thread at the edge. The files must say of this
  // node what `expected` does. The error is a sentence that names the file.
  static std::expected<std::shared_ptr<const TlsContext>, std::string> load(
      const Files& files, const NodeIdentity& expected);
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;
  ~TlsContext();

  const NodeIdentity& identity() const { return identity_; }
  // When the node's own certificate ends, "Jan  1 00:00:00 2030 GMT".
  const std::string& valid_until() const { return valid_until_; }
  ssl_ctx_st* ssl() const { return ssl_; }

 private:
  TlsContext(ssl_ctx_st* ssl, NodeIdentity identity, std::string valid_until);

  ssl_ctx_st* ssl_;
  NodeIdentity identity_;
  std::string valid_until_;
};

// The present context of a program: what all its listeners and peers take for their next
// connection. Owner: the program; one loop's. To reload: load() anew, then replace().
class TlsIdentity {
 public:
  explicit TlsIdentity(std::shared_ptr<const TlsContext> context) : context_(std::move(context)) {}
  const std::shared_ptr<const TlsContext>& context() const { return context_; }
  // Connections that are there go on with the old one.
  void replace(std::shared_ptr<const TlsContext> context) { context_ = std::move(context); }

 private:
  std::shared_ptr<const TlsContext> context_;
};

}  // namespace holdfast::rpc
