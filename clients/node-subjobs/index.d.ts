/** A job type of this version, or one that `--job-type` adds. */
export type JobType = string;

export type Status = 'WAITING' | 'RUNNING' | 'SUCCESS' | 'FAILED' | 'ABNORMAL' | 'ROLLBACK' | 'ABORTING';

/** A subtask as a worker reports it. */
export interface SubJob {
  id: string;
  status: Status;
  /** "job" unless it is given. */
  job_id?: string;
  /** CREATE_SERVER unless it is given. */
  job_type?: JobType;
  version?: number;
  family?: 'app' | 'image';
  begin_time?: string;
  end_time?: string;
  job_resource_info?: object;
  job_execute_info?: object;
  error_code?: string;
  error_message?: string;
}

/** How many subtasks of a report were created, updated, unchanged and stale. */
export interface Outcome {
  created: number;
  updated: number;
  unchanged: number;
  stale: number;
}

export interface Filters {
  status?: Status;
  job_type?: JobType;
  job_id?: string;
}

/** A fault rule. It has `status`, `latency_ms` or both, and at most one of `operation` and `route`. */
export interface FaultRule {
  /** An operationId; without it and `route` every operation of the public listener. */
  operation?: string;
  /** A path template. */
  route?: string;
  status?: 500 | 503;
  latency_ms?: number;
  /** The part of the requests that is hit, 0 to 1. */
  ratio?: number;
  /** After how many hits the rule ends. */
  times?: number;
  seed?: number;
}

export interface Faults {
  /** Replaces all rules. */
  set(...rules: FaultRule[]): Promise<(FaultRule & { hits: number })[]>;
  list(): Promise<(FaultRule & { hits: number })[]>;
  clear(): Promise<void>;
}

/** The clock by which subtasks and tokens expire. Each method returns the time of the server. */
export interface Clock {
  now(): Promise<Date>;
  /** Sets the clock, which then goes on. */
  set(time: Date): Promise<Date>;
  /** Sets the clock ahead, or back. */
  advance(milliseconds: number): Promise<Date>;
  reset(): Promise<Date>;
}

export interface Server {
  /** The URL of the public listener, with which callers count. */
  readonly public: string;
  /** The URL of the internal listener, to which workers report. */
  readonly internal: string;
  /** A token that may do everything in every project. */
  readonly token: string;
  /** A token that may only report. */
  readonly workerToken: string;
  readonly pid: number;
  readonly faults: Faults;
  readonly clock: Clock;
  /** Reports subtasks in one step. */
  report(project: string, subJobs: SubJob | SubJob[], options?: { token?: string }): Promise<Outcome>;
  /** Counts the subtasks that match. */
  count(project: string, filters?: Filters, options?: { token?: string }): Promise<number>;
  /** Deletes all subtasks, removes all faults and sets the clock back. Returns how many subtasks were deleted. */
  reset(): Promise<number>;
  /** Sends a request to the internal listener, without a credential, and returns the JSON of its response. */
  control(method: string, path: string, body?: unknown): Promise<any>;
  /** What the server has logged so far; of a long log the end. */
  log(): string;
  /** Stops the server. Returns its exit code, which is null if a signal has ended it. */
  stop(): Promise<number | null>;
}

export interface StartOptions {
  /** Further options of `subjobs serve`. */
  args?: string[];
  /** The program; else SUBJOBS_BIN, else `subjobs` on the path. */
  binary?: string;
  /** Further environment variables of the program. */
  env?: Record<string, string>;
  /** A token of the access file, if `args` has `--access`. */
  token?: string;
}

/** Starts a server, and waits until it is ready. */
export function startSubjobs(options?: StartOptions): Promise<Server>;

/** The program cannot be found, or has not become ready. The text has its log. */
export class StartError extends Error {}

/** The server has answered with an error. */
export class SubjobsError extends Error {
  readonly status: number;
  readonly code: string;
}
