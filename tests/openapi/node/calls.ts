// Calls the server with the client that openapi-typescript makes of its document; `tsc` checks every type in here.
//
//   calls.js PUBLIC INTERNAL PROJECT TOKEN

import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[] };

type Failure = components["schemas"]["Error"];
type SubJob = components["schemas"]["SubJob"];

const [publicAddress, internalAddress, project_id, token] = process.argv.slice(2) as [string, string, string, string];
const client = (address: string, given = token) =>
    createClient<paths>({ baseUrl: `http://${address}`, headers: { "X-Auth-Token": given } });
const api = client(publicAddress);
const internal = client(internalAddress);
const path = { project_id };
const job_id = "typescript-job";

function check(holds: boolean, what: string, ...seen: unknown[]): asserts holds {
    if (!holds) throw new Error(`${what}: ${JSON.stringify(seen)}`);
}

/** The data of a response, which must not be an error. */
function data<T>(answer: { data?: T; error?: Failure; response: Response }): T {
    check(answer.response.ok && answer.error === undefined, answer.response.url, answer.response.status, answer.error);
    return answer.data as T;
}

/** Checks that a response is an error of this status and code. */
function checkError(answer: { error?: Failure; response: Response }, status: number, code: string) {
    const { error, response } = answer;
    check(response.status === status, response.url, response.status, error);
    check(error !== undefined && error.error_code === code && error.error_msg.length > 0, response.url, error);
}

const report = async (...statuses: SubJob["status"][]) => {
    const body = statuses.map((status, at): SubJob => ({ id: `ts-${at}`, job_id, job_type: "ADDED_1", status, version: 1 }));
    return data(await internal.POST("/v1/{project_id}/app-server-sub-jobs/actions/report", { params: { path }, body }));
};
const count = async (status?: SubJob["status"]) => {
    const query = status === undefined ? { job_id } : { job_id, status };
    return data(
        await api.GET("/v1/{project_id}/app-server-sub-jobs/actions/count", { params: { path, query } }),
    ).count;
};
const remove = (...items: string[]) =>
    api.POST("/v1/{project_id}/app-server-sub-jobs/actions/batch-delete", { params: { path }, body: { items } });
const summary = (headers: { "If-None-Match"?: string } = {}) =>
    api.GET("/subjobs/v1/{project_id}/summary", { params: { path, query: { job_id }, header: headers } });

const outcome = await report("SUCCESS", "FAILED", "RUNNING");
check(outcome.created === 3, "report", outcome);
check((await count()) === 3 && (await count("FAILED")) === 1, "count");

const list = data(
    await api.GET("/v1/{project_id}/app-server-sub-jobs", {
        params: { path, query: { job_type: "ADDED_1", job_id, offset: 1, limit: 1 } },
    }),
);
check(list.count === 3 && list.items[0]?.id === "ts-1" && list.items[0].status === "FAILED", "list", list);

const job = data(await api.GET("/v2/{project_id}/job/{job_id}", { params: { path: { project_id, job_id } } }));
check(job.status === "RUNNING" && job.sub_jobs_total === 3 && job.sub_jobs[2]?.id === "ts-2", "show", job);

const counts = await summary();
const { total, by_status, by_type } = data(counts);
check(total === 3 && by_status["SUCCESS"] === 1 && by_type["ADDED_1"]?.["RUNNING"] === 1, "summary", counts.data);
const tag = counts.response.headers.get("ETag");
check(tag !== null && tag.startsWith('"'), "summary's tag", tag);
// The demo goes on, so the tag may have changed meanwhile.
check((await summary({ "If-None-Match": "*" })).response.status === 304, "summary with any tag");

const wait = (query: { job_id: string; until: string; status?: string; timeout?: number }) =>
    api.GET("/subjobs/v1/{project_id}/wait", { params: { path, query } });
const waited = wait({ job_id, status: "RUNNING", until: "eq:0", timeout: 20 });
checkError(await remove("ts-0", "ts-2"), 400, "WKS.00211102");
check((await count()) === 3, "a refused delete deletes nothing");
await internal.POST("/v1/{project_id}/app-server-sub-jobs/actions/report", {
    params: { path },
    body: [{ id: "ts-2", job_id, job_type: "ADDED_1", status: "SUCCESS", version: 2 }],
});
const end = data(await waited);
check(end.satisfied && end.count === 0 && end.revision > 0, "wait", end);
data(await remove("ts-0", "ts-1", "ts-2", "unknown"));
check((await count()) === 0, "delete");
const late = data(await wait({ job_id, until: "ge:1", timeout: 1 }));
check(!late.satisfied && late.count === 0, "wait until the timeout", late);

const page = { params: { path, query: { job_type: "BUILD_IMAGE" as const, limit: 100 } } };
const images = data(await api.GET("/v1/{project_id}/image-server-sub-jobs", page));
check(images.count > 0 && images.items.length === images.count, "list of images", images.count);
const jobs = data(await api.GET("/v1/{project_id}/image-server-jobs", page));
check(jobs.items.every((one) => one.job_type === "BUILD_IMAGE"), "list of image jobs", jobs);

checkError(await api.GET("/v2/{project_id}/job/{job_id}", { params: { path: { project_id, job_id } } }), 404, "WKS.00211902");
const limit = { params: { path, query: { job_type: "" as const, limit: 101 } } };
checkError(await api.GET("/v1/{project_id}/app-server-sub-jobs", limit), 400, "WKS.00211102");
const stranger = client(publicAddress, "unknown");
checkError(await stranger.GET("/subjobs/v1/{project_id}/summary", { params: { path } }), 401, "WKS.00211302");
console.log("the TypeScript client has called the server");
