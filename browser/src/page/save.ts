/** Saving the evidence: the files of each session, made on the device and kept where the user says. */

import { evidenceFiles } from "../evidence.ts";
import type { Session } from "../session.ts";
import type { Entry } from "./answers.ts";
import type { PageConfig } from "./config.ts";

/** Hand the user the evidence of each session that gave an answer. */
export function saveEvidence(entries: readonly Entry[], config: PageConfig, withStatements: boolean): void {
  for (const session of sessionsOf(entries)) {
    const receipts = entries
      .filter((entry) => entry.session === session)
      .flatMap(({ answer }) => answer?.receipt ?? []);
    const { document: verified, evidence, nonce, requestedAt } = session.enclave;
    const texts = evidenceFiles(
      {
        document: evidence.document,
        keyConfig: evidence.keyConfig,
        nonce,
        requestedAt,
        rootName: config.root.name,
        rootSha256: config.root.sha256,
        policy: config.policyText,
        receipts,
        tool: config.tool,
      },
      withStatements,
    );
    const day = new Date(verified.timestamp).toISOString().slice(0, 19).replaceAll(":", "");
    for (const [index, text] of texts.entries()) {
      download(text, `evidence-${day}${index === 0 ? "" : `-${index + 1}`}.json`);
    }
  }
}

function sessionsOf(entries: readonly Entry[]): Session[] {
  return [...new Set(entries.flatMap(({ session }) => session ?? []))];
}

function download(text: string, name: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // After the browser has begun to read it.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
