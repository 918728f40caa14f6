/** What `enclavectl page` wrote into the page: policy, root, gateway and texts. */

import { sha256 } from "@noble/hashes/sha2.js";
import { fromBase64, hex } from "../bytes.ts";
import * as json from "../json.ts";
import { type Policy, parsePolicy, type Trust } from "../policy.ts";
import type { TrustRoot } from "../verify.ts";

const SCHEMA = "enclavectl.page-config/1";

export interface PageConfig {
  /** The heading; null for the one of the texts. */
  title: string | null;
  /** Who gives newer pages and helps, for people; null if nobody is named. */
  contact: string | null;
  address: string;
  needsToken: boolean;
  root: TrustRoot & { sha256: string };
  policy: Policy;
  policyText: string;
  tool: string;
}

/** Read the page's own configuration.
 *
 * @throws JsonError or DOMException if the page was damaged.
 */
export function parseConfig(text: string): PageConfig {
  const top = json.object(JSON.parse(text), "page");
  if (top.schema !== SCHEMA) {
    throw new json.JsonError(`schema: expected ${SCHEMA}`);
  }
  const root = json.object(top.root, "root");
  const der = fromBase64(json.string(root.certificate, "certificate"));
  return {
    title: top.title === null ? null : json.string(top.title, "title"),
    contact: top.contact === null ? null : json.string(top.contact, "contact"),
    address: json.string(top.address, "address"),
    needsToken: json.boolean(top.needs_token, "needs_token"),
    root: {
      der,
      trust: json.string(root.trust, "trust") as Trust,
      name: json.string(root.name, "name"),
      sha256: hex(sha256(der)),
    },
    policy: parsePolicy(top.policy),
    policyText: json.string(top.policy_text, "policy_text"),
    tool: json.string(top.tool, "tool"),
  };
}
