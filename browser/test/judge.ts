/**
 * A judge for the Python tests: reads cases as lines of JSON, writes the code of each verdict as a line.
 *
 * A case has `document`, `root`, `nonce` and `user_data` in base64, `trust`, `policy` as the page has it, and
 * `now` in milliseconds. The answer is "ok" with the release and the trust, or the code of the refusal.
 */

import { createInterface } from "node:readline";
import { fromBase64 } from "../src/bytes.ts";
import { EvidenceRefused } from "../src/errors.ts";
import * as json from "../src/json.ts";
import { parsePolicy, type Trust } from "../src/policy.ts";
import { verify } from "../src/verify.ts";

async function judge(line: string): Promise<string> {
  const fields = json.object(JSON.parse(line), "case");
  const bytes = (name: string) => fromBase64(json.string(fields[name], name));
  const root = { der: bytes("root"), trust: json.string(fields.trust, "trust") as Trust, name: "test" };
  const demands = {
    root,
    policy: parsePolicy(fields.policy),
    at: json.integer(fields.now, "now", 0, Number.MAX_SAFE_INTEGER),
    nonce: bytes("nonce"),
    userData: bytes("user_data"),
  };
  try {
    const verified = await verify(bytes("document"), demands);
    return `ok ${verified.trust} ${verified.release ?? "-"}`;
  } catch (error) {
    if (error instanceof EvidenceRefused) {
      return error.code;
    }
    throw error;
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${await judge(line)}\n`);
}
