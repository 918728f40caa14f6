/**
 * A session with one verified enclave: challenge, verify, seal, open. The order is in the types: only `open`
 * makes a Session, and it verifies first. Before that nothing but the challenge has left.
 */

import { type AnswerContent, type Outcome, parseAnswerContent, parseOutcome } from "./answer.ts";
import { type Bytes, equal, hex, isZero, uint } from "./bytes.ts";
import { Carriage } from "./carriage.ts";
import { refused, SessionError } from "./errors.ts";
import type { KeptReceipt } from "./evidence.ts";
import { Inbox, refusalError } from "./inbox.ts";
import { chooseKey, type KeyConfig, parseKeyConfig } from "./keyconfig.ts";
import { MODEL_PCR, type Policy } from "./policy.ts";
import { parseReceipt } from "./receipt.ts";
import { answerStatement, checkCommitments, checkReceipt, requestStatement } from "./receiptcheck.ts";
import { type MediaType, openAnswer, type Request, sealRequest } from "./seal.ts";
import { type Step, type TrustRoot, type VerifiedDocument, verify } from "./verify.ts";
import * as wire from "./wire.ts";

/** Milliseconds: a connection, the evidence, and an answer may each take this long. */
const TIMEOUT_MS = 30_000;
// A receipt counts until the leaf certificate ends; a picture that takes its time must not run into that.
const RENEW_BEFORE_MS = 2 * 60 * 1000;

/** What the page was made with, and the client's own watch. */
export interface Expectation {
  address: string;
  token: string | null;
  policy: Policy;
  root: TrustRoot;
}

/** Steps beside those of the document: the connection, and what the document's own values are held to. */
export type Progress = "connected" | Step | "key-config" | "model";

export interface Picture {
  data: Bytes;
  mediaType: MediaType;
  /** Of the data: the receipt commits to it. */
  sha256: Bytes;
}

export interface CheckedAnswer {
  outcome: Outcome;
  /** Null where the outcome is a problem: that has no receipt. */
  receipt: KeptReceipt | null;
}

interface Pending {
  request: Request;
  pictureSha256: Bytes;
  resolve: (answer: CheckedAnswer) => void;
  reject: (error: unknown) => void;
}

/** What is known before the first picture is sent. */
export interface Enclave {
  document: VerifiedDocument;
  evidence: wire.Evidence;
  config: KeyConfig;
  nonce: Bytes;
  requestedAt: number;
  transcript: Bytes;
}

export class Session {
  readonly enclave: Enclave;
  readonly #carriage: Carriage;
  readonly #id: Bytes;
  readonly #pending = new Map<string, Pending>();
  #counter = 0;
  #turn: Promise<void> = Promise.resolve();
  #error: unknown = null;

  private constructor(carriage: Carriage, enclave: Enclave) {
    this.#carriage = carriage;
    this.enclave = enclave;
    this.#id = wire.sessionId(enclave.transcript);
  }

  /** Connect to an enclave and verify it; `passed` hears of each step that held.
   *
   * @throws EvidenceRefused if it is not proven: nothing but the challenge was sent.
   * @throws SessionError if there is no conversation.
   */
  static async open(expectation: Expectation, passed: (step: Progress) => void): Promise<Session> {
    const inbox = new Inbox();
    const opening = Carriage.open(expectation.address, expectation.token, inbox);
    const carriage = await within(TIMEOUT_MS, opening, "unreachable").catch((error: unknown) => {
      opening.then(
        (late) => late.close(),
        () => {},
      );
      throw error;
    });
    try {
      passed("connected");
      const nonce = crypto.getRandomValues(new Uint8Array(wire.NONCE_BYTES));
      const requestedAt = Date.now();
      const challenge = wire.challengeBody(nonce);
      await carriage.send([wire.frameHeader(wire.FrameType.Challenge, challenge.length), challenge]);
      const frame = await within(TIMEOUT_MS, inbox.evidence());
      const evidence = wire.parseEvidence(frame.body);
      const enclave = await prove(evidence, { nonce, requestedAt, challenge }, expectation, passed);
      const session = new Session(carriage, enclave);
      inbox.handOver(
        (next) => session.#take(next),
        (error) => session.#end(error),
      );
      return session;
    } catch (error) {
      carriage.close();
      throw error;
    }
  }

  /** True while pictures can be sent: the connection is there, and the document will vouch for the receipt. */
  isUsable(now: number): boolean {
    return this.#error === null && now < this.enclave.document.leafNotAfter - RENEW_BEFORE_MS;
  }

  /** Seal a picture, send it, and return the checked answer. `sent` hears the share that has gone, 0 to 1.
   *
   * @throws EvidenceRefused if the receipt is wrong: the answer counts for nothing, and the session is over.
   * @throws SessionError `busy` for this request alone, else the session is over.
   */
  async ask(picture: Picture, sent: (share: number) => void = () => {}): Promise<CheckedAnswer> {
    this.#check();
    const request: Request = {
      picture: picture.data,
      mediaType: picture.mediaType,
      replyKey: crypto.getRandomValues(new Uint8Array(32)),
      salt: crypto.getRandomValues(new Uint8Array(32)),
    };
    const counter = this.#counter;
    this.#counter += 1;
    const answer = new Promise<CheckedAnswer>((resolve, reject) => {
      const pending = { request, pictureSha256: picture.sha256, resolve, reject };
      this.#pending.set(hex(wire.requestId(this.#id, counter)), pending);
    });
    // Counters must arrive in their order, so one picture is sealed and sent after the other.
    const turn = this.#turn.then(() => this.#send(counter, request, sent));
    this.#turn = turn.catch(() => {});
    turn.catch((error) => this.#end(error));
    // The wait begins when the picture has gone: a slow line is not a slow enclave.
    const wait = turn.then(() => within(TIMEOUT_MS, answer));
    try {
      return await Promise.race([answer, wait]);
    } catch (error) {
      if (!(error instanceof SessionError && error.code === "busy")) {
        this.#end(error);
      }
      throw error;
    }
  }

  close(): void {
    this.#end(new SessionError("lost", "the session was closed"));
  }

  #check(): void {
    if (this.#error !== null) {
      throw this.#error;
    }
  }

  async #send(counter: number, request: Request, sent: (share: number) => void): Promise<void> {
    this.#check();
    const { suite, key } = chooseKey(this.enclave.config);
    const id = wire.requestId(this.#id, counter);
    const sealed = await sealRequest(suite, key, id, this.enclave.transcript, request).catch(() => {
      throw refused("key-config", `suite ${suite}: the attested public key is no key`);
    });
    const fields = [uint(counter, 8), uint(suite, 2), sealed.enc, sealed.ciphertext];
    const size = fields.reduce((sum, field) => sum + field.length, 0);
    let done = 0;
    await this.#carriage.send([wire.frameHeader(wire.FrameType.Sealed, size), ...fields], (bytes) => {
      done += bytes;
      sent(Math.min(done / size, 1));
    });
  }

  #take(frame: wire.Frame): void {
    if (frame.type === wire.FrameType.Refusal) {
      this.#takeRefusal(wire.parseRefusal(frame.body));
      return;
    }
    const answer = wire.parseAnswer(frame.body);
    const name = hex(answer.requestId);
    const pending = this.#pending.get(name);
    if (pending === undefined || answer.kind !== 0) {
      throw wire.protocolError("an answer to a request that is not under way");
    }
    this.#pending.delete(name);
    this.#open(pending, answer).then(pending.resolve, (error) => {
      pending.reject(error);
      this.#end(error);
    });
  }

  #takeRefusal({ code, requestId }: wire.Refusal): void {
    const error = refusalError(code);
    const pending = this.#pending.get(hex(requestId));
    if (error.code !== "busy" || isZero(requestId) || pending === undefined) {
      throw error;
    }
    this.#pending.delete(hex(requestId));
    pending.reject(error);
  }

  async #open(pending: Pending, answer: wire.Answer): Promise<CheckedAnswer> {
    const content = parseAnswerContent(
      await openAnswer(pending.request.replyKey, answer.requestId, answer.kind, answer.ciphertext),
    );
    const outcome = parseOutcome(content.outcome);
    if (outcome.problem !== null) {
      if (content.receipt !== null) {
        throw wire.protocolError("a problem has no receipt");
      }
      return { outcome, receipt: null };
    }
    return { outcome, receipt: this.#checkReceipt(pending, content, outcome) };
  }

  #checkReceipt(pending: Pending, content: AnswerContent, outcome: Outcome): KeptReceipt {
    if (content.receipt === null) {
      throw refused("receipt-missing", "answer: expected a signed receipt with the probabilities");
    }
    const { document, evidence, config } = this.enclave;
    const receipt = parseReceipt(content.receipt);
    checkReceipt(receipt, { document, documentBytes: evidence.document, config });
    const { request, pictureSha256 } = pending;
    const asked = requestStatement(request.salt, pictureSha256, request.mediaType);
    const answered = answerStatement(request.salt, content.outcome);
    checkCommitments(receipt, asked, answered, outcome);
    return { receipt: content.receipt, requestStatement: asked, answerStatement: answered };
  }

  #end(error: unknown): void {
    if (this.#error !== null) {
      return;
    }
    this.#error = error;
    this.#carriage.close();
    for (const pending of this.#pending.values()) {
      pending.reject(error);
    }
    this.#pending.clear();
  }
}

interface Asked {
  nonce: Bytes;
  requestedAt: number;
  challenge: Bytes;
}

/** Verify the evidence, then read the key configuration that it attests. */
async function prove(
  evidence: wire.Evidence,
  asked: Asked,
  expectation: Expectation,
  passed: (step: Progress) => void,
): Promise<Enclave> {
  const demands = {
    root: expectation.root,
    policy: expectation.policy,
    at: Date.now(),
    nonce: asked.nonce,
    userData: wire.keyConfigDigest(evidence.keyConfig),
  };
  const document = await verify(evidence.document, demands, passed);
  if (document.publicKey?.length !== 32) {
    throw refused("no-receipt-key", "public_key: expected an Ed25519 key of 32 bytes");
  }
  const config = parseKeyConfig(evidence.keyConfig);
  chooseKey(config);
  passed("key-config");
  const measured = document.pcrs.get(MODEL_PCR);
  if (measured !== undefined && !equal(measured, config.register)) {
    throw refused("model-register", `PCR${MODEL_PCR}: the card is not the one that the enclave measured`);
  }
  passed("model");
  const transcript = wire.transcriptHash(asked.challenge, evidence.body);
  return { document, evidence, config, nonce: asked.nonce, requestedAt: asked.requestedAt, transcript };
}

async function within<T>(
  ms: number,
  work: Promise<T>,
  code: "timeout" | "unreachable" = "timeout",
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new SessionError(code, `no answer within ${ms / 1000} seconds`));
    }, ms);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
