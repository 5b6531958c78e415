/** One workflow. */

import { useState } from 'react'
import { useCatalog, useWorkflow } from '../api/queries'
import type { Flow } from '../model/graph'
import { Page } from '../parts/Page'
import { Trouble } from '../parts/Trouble'
import { Steps } from '../run/Steps'
import { words } from '../words'

export default function WorkflowPage({ id }: { id: string }) {
  const workflow = useWorkflow(id)
  const catalog = useCatalog()
  const [step, setStep] = useState<string | null>(null)
  if (workflow.error) return <Trouble error={workflow.error} retry={() => workflow.refetch()} />
  if (!workflow.data)
    return (
      <p className="quiet" role="status">
        {words.state.loading}
      </p>
    )
  return (
    <Page title={workflow.data.name}>
      <Steps flow={workflow.data.definition as Flow} catalog={catalog.data ?? {}} selected={step} select={setStep} />
    </Page>
  )
}
