/** One workflow, in the editor. */
import { useWorkflow } from '../api/queries'
import { Editor } from '../editor/Editor'
import { Trouble } from '../parts/Trouble'
import { words } from '../words'

export default function WorkflowPage({ id }: { id: string }) {
  const workflow = useWorkflow(id)
  if (workflow.error && !workflow.data) return <Trouble error={workflow.error} retry={() => workflow.refetch()} />
  if (!workflow.data)
    return (
      <p className="quiet" role="status">
        {words.state.loading}
      </p>
    )
  return <Editor key={id} workflow={workflow.data} />
}
