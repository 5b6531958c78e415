/** One workflow, in the editor. */
import { useWorkflow } from '../api/queries'
import { Editor } from '../editor/Editor'
import { Missing } from '../parts/Missing'
import { Loading } from '../parts/Section'

export default function WorkflowPage({ id }: { id: string }) {
  const workflow = useWorkflow(id)
  if (workflow.error && !workflow.data)
    return <Missing of="workflows" error={workflow.error} retry={() => workflow.refetch()} />
  if (!workflow.data) return <Loading />
  return <Editor key={id} workflow={workflow.data} />
}
