// A typed test of a user, which the compiler reads.

import { Server, SubjobsError, startSubjobs } from 'subjobs-testing';

export async function typed(): Promise<number> {
  const server: Server = await startSubjobs({ args: ['--job-type', 'NEW'], env: { RUST_LOG: 'warn' } });
  try {
    const { created } = await server.report('p', [{ id: '1', status: 'RUNNING' }]);
    const [rule] = await server.faults.set({ operation: 'CountSubJobs', status: 503, ratio: 0.5 });
    const now: Date = await server.clock.advance(1000);
    // @ts-expect-error: no such status
    await server.count('p', { status: 'DONE' });
    return created + rule.hits + now.getTime() + (await server.count('p', { status: 'RUNNING' }));
  } catch (error) {
    if (error instanceof SubjobsError) return error.status;
    throw error;
  } finally {
    await server.stop();
  }
}
